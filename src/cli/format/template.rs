//! Go's text/template over [`Value`]s, for every `--format`. Pure.
//!
//! Complete as far as Docker's users can see: pipelines, variables, if/with/
//! range with else, break and continue, define/template/block, trim markers,
//! comments, all predefined functions and Docker's own, and Go's words in errors.

mod exec;
mod funcs;
mod lex;
mod parse;
mod printf;

pub use exec::Header;

use crate::cli::format::value::Value;

pub struct Template {
    source: String,
    name: String,
    tree: parse::Tree,
}

impl Template {
    /// The error is Go's: `template: :1: unclosed action`.
    pub fn parse(source: &str) -> Result<Self, String> {
        Self::parse_named("", source)
    }

    pub fn parse_named(name: &str, source: &str) -> Result<Self, String> {
        match parse::parse(source) {
            Ok(tree) => Ok(Self { source: source.to_owned(), name: name.to_owned(), tree }),
            Err((message, pos)) => {
                let line = source[..pos.min(source.len())].matches('\n').count() + 1;
                Err(format!("template: {name}:{line}: {message}"))
            }
        }
    }

    pub fn render(&self, value: &Value) -> Result<String, String> {
        self.run(value, false).map_err(|(_, message)| message)
    }

    /// On failure also what was written before it.
    pub fn render_partly(&self, value: &Value) -> Result<String, (String, String)> {
        self.run(value, false)
    }

    /// With Docker's header functions, which do nothing to a column's name.
    pub fn render_header(&self, header: Header) -> Result<String, String> {
        self.run(&Value::Object(std::rc::Rc::new(header)), true).map_err(|(_, message)| message)
    }

    fn run(&self, value: &Value, header: bool) -> Result<String, (String, String)> {
        let mut exec = exec::Exec {
            source: &self.source,
            name: &self.name,
            named: &self.tree.named,
            header,
            out: String::new(),
            variables: exec::root(value),
            at: None,
            depth: 0,
        };
        match exec.list(value, &self.tree.root) {
            Ok(_) => Ok(exec.out),
            Err(message) => Err((exec.out, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        crate::util::json::from_str(json).unwrap()
    }
    fn run(template: &str, json: &str) -> String {
        match Template::parse(template) {
            Ok(t) => t.render(&value(json)).unwrap_or_else(|e| e),
            Err(e) => e,
        }
    }

    #[test]
    fn actions() {
        let data = r#"{"Names":["a","b"],"M":{"z":1,"y":2},"S":"text","N":null,"E":[],"F":1.5}"#;
        for (template, expected) in [
            ("{{.S}}", "text"),
            ("{{ .S -}} \n x", "textx"),
            ("a {{- /* no */ -}} b", "ab"),
            ("{{/* no */}}b", "b"),
            ("{{.Nope}} {{.N}} {{.M}} {{.Names}} {{.F}}", "<no value> <no value> map[y:2 z:1] [a b] 1.5"),
            ("{{range .Names}}{{.}},{{end}}", "a,b,"),
            ("{{range $i, $e := .Names}}{{$i}}{{$e}}{{end}}", "0a1b"),
            ("{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "y=2;z=1;"),
            ("{{range .E}}x{{else}}none{{end}}", "none"),
            ("{{range 3}}{{.}}{{end}}", "012"),
            ("{{range .Names}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{break}}{{end}}", "b"),
            ("{{if .E}}a{{else if .S}}b{{else}}c{{end}}", "b"),
            ("{{with .S}}{{.}}{{$}}{{end}}", &format!("text{}", value(data))),
            ("{{with .E}}x{{else with .S}}{{.}}{{end}}", "text"),
            ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
            ("{{define \"q\"}}<{{.}}>{{end}}{{template \"q\" .S}}", "<text>"),
            ("{{block \"q\" .S}}[{{.}}]{{end}}", "[text]"),
            ("{{(index .Names 1) | upper}}", "B"),
            ("{{index .M \"z\"}} {{index .M \"none\"}}", "1 <no value>"),
            ("{{.M.z}}{{(.M).y}}{{$.M.y}}", "122"),
            ("{{`raw`}} {{\"a\\tb\"}} {{'a'}} {{0x10}} {{1e3}} {{1.50}} {{-3}}", "raw a\tb 97 16 1000 1.5 -3"),
        ] {
            assert_eq!(run(template, data), expected, "{template}");
        }
    }

    #[test]
    fn functions() {
        for (template, expected) in [
            ("{{json .}}", "[\"b\",\"a\"]"),
            ("{{join . \"-\"}}", "b-a"),
            ("{{split \"a.b\" \".\"}}", "[a b]"),
            ("{{title \"hello wORLD\"}} {{lower \"AB\"}} {{upper \"ab\"}}", "Hello WORLD ab AB"),
            ("{{pad \"x\" 1 2}}|{{truncate \"abc\" 2}}|{{truncate \"abc\" 9}}", " x  |ab|abc"),
            ("{{print 1 2 \"x\" \"y\" 3}} {{println 1}}", "1 2xy3 1"),
            (
                "{{printf \"%-4s|%4d|%04d|%.2f|%q|%v|%t|%x\" \"a\" 1 2 1.5 \"q\" . true 255}}",
                "a   |   1|0002|1.50|\"q\"|[b a]|true|ff",
            ),
            ("{{len (printf \"%77777777777777777777777d%*d\" 1 1666666666 2)}}", "20000"),
            ("{{len .}} {{len \"abc\"}} {{slice \"abcd\" 1 3}} {{slice . 1}}", "2 3 bc [a]"),
            (
                "{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt \"b\" \"a\"}} {{ge 1 2}}",
                "true true true true true false",
            ),
            ("{{and 1 0}} {{or 0 \"x\"}} {{not true}}", "0 x false"),
            ("{{html \"<a&'\"}} {{js \"'<\"}} {{urlquery \"a b&\"}}", "&lt;a&amp;&#39; \\'\\u003C a+b%26"),
            ("{{\"x\" | printf \"%s-%s\" \"y\"}}", "y-x"),
            (
                "{{printf \"%d %s\" \"x\" 1}}{{printf \"%s\"}}{{printf \"a\" 1}}",
                "%!d(string=x) %!s(int=1)%!s(MISSING)a%!(EXTRA int=1)",
            ),
        ] {
            let got = run(template, r#"["b","a"]"#);
            assert_eq!(got.trim_end(), expected, "{template}");
        }
    }

    #[test]
    fn errors_in_gos_words() {
        for (template, expected) in [
            ("{{.Names", "template: :1: unclosed action"),
            ("{{foo .Names}}", "template: :1: function \"foo\" not defined"),
            ("{{if .Names}}", "template: :1: unexpected EOF"),
            ("\n{{end}}", "template: :2: unexpected {{end}}"),
            ("{{\"abc}}", "template: :1: unterminated quoted string"),
            ("{{$x}}", "template: :1: undefined variable \"$x\""),
            ("{{.ID}", "template: :1: bad character U+007D '}'"),
            ("{{break}}", "template: :1: {{break}} outside {{range}}"),
            ("{{ /* c */ }}", "template: :1: unexpected \"/\" in command"),
            ("{{.S | 3}}", "template: :1: non executable command in pipeline stage 2"),
            ("{{.S.Foo}}", "template: :1:4: executing \"\" at <.S.Foo>: can't evaluate field Foo in type string"),
            (
                "{{index .S 3}}",
                "template: :1:2: executing \"\" at <index .S 3>: error calling index: index out of range: 3",
            ),
            (
                "{{truncate .S}}",
                "template: :1:2: executing \"\" at <truncate>: wrong number of args for truncate: want 2 got 1",
            ),
            ("{{truncate .S \"a\"}}", "template: :1:14: executing \"\" at <\"a\">: expected integer; found \"a\""),
            (
                "{{pad .S 1666666666666 2}}",
                "template: :1:2: executing \"\" at <pad .S 1666666666666 2>: error calling pad: width out of range",
            ),
            (
                "{{eq 1 \"a\"}}",
                "template: :1:2: executing \"\" at <eq 1 \"a\">: error calling eq: incompatible types for comparison",
            ),
            (
                "{{template \"x\"}}",
                "template: :1:11: executing \"\" at <{{template \"x\"}}>: template \"x\" not defined",
            ),
            ("{{nil}}", "template: :1:2: executing \"\" at <nil>: nil is not a command"),
            ("{{1 2}}", "template: :1:2: executing \"\" at <1>: can't give argument to non-function 1"),
            ("{{range .S}}{{end}}", "template: :1:8: executing \"\" at <.S>: range can't iterate over s"),
        ] {
            assert_eq!(run(template, r#"{"S":"s"}"#), expected, "{template}");
        }
    }
}
