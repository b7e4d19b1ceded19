//! `--format`: the first line is the template, the rest the object.

#![no_main]

use coracle::cli::format::template::Template;
use coracle::cli::format::value::Value;
use coracle::util::json;
use libfuzzer_sys::fuzz_target;

const OBJECT: &str = r#"{"Names":["a","b"],"M":{"z":1,"y":{"x":[]}},"S":"t\u00e9xt","N":null,"F":1.5,"B":true}"#;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    let (template, object) = text.split_once('\n').unwrap_or((text, OBJECT));
    let Ok(template) = Template::parse(template) else { return };
    let value: Value = json::from_str(object).or_else(|_| json::from_str(OBJECT)).unwrap();
    let _ = template.render_partly(&value);
    let _ = template.render(&value);
});
