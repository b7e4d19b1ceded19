//! `docker context inspect`.

use crate::cli::context::Context;
use crate::cli::context_store::DEFAULT;
use crate::cli::contexts;
use crate::cli::format::shape;
use crate::cli::format::value::Value;
use crate::cli::inspect;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;
use std::rc::Rc;

/// Show all there is to know about contexts
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    #[argh(positional, greedy)]
    pub names: Vec<String>,
}

fn describe(cx: &Context, name: &str) -> Result<Value> {
    let store = contexts::store(cx);
    let (mut meta, tls) = contexts::resolve(cx, name)?;
    let (meta_path, tls_path) = if name == DEFAULT {
        meta.metadata.clear();
        ("<IN MEMORY>".to_owned(), "<IN MEMORY>".to_owned())
    } else {
        (store.meta_dir(name).display().to_string(), store.tls_dir(name).display().to_string())
    };
    let files: Vec<Value> = tls.iter().map(|(file, _)| Value::str(file)).collect();
    let material = if files.is_empty() { Vec::new() } else { vec![(Rc::from("docker"), Value::list(files))] };
    let Value::Map(known) = meta.to_value() else { return Ok(Value::Nil) };
    let mut all = known.to_vec();
    all.push((Rc::from("TLSMaterial"), Value::map(material)));
    let paths = vec![(Rc::from("MetadataPath"), Value::from(meta_path)), (Rc::from("TLSPath"), Value::from(tls_path))];
    all.push((Rc::from("Storage"), Value::map(paths)));
    Ok(shape::object(Value::map(all)).into_struct("context.contextWithTLSListing"))
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let names = match self.names.as_slice() {
            [] => vec![crate::cli::host::context_name(cx)?],
            names => names.to_vec(),
        };
        inspect::print(cx, self.format.as_deref(), &names, false, |cx, name| describe(cx, name))
    }
}
