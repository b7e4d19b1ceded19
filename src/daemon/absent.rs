//! The storage driver of a daemon that has none: every use says so.

use crate::error::{Error, Result};
use crate::storage::{Driver, RwOptions, Staging};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub struct Absent;

fn absent<T>() -> Result<T> {
    Err(Error::not_implemented("there is no storage driver yet"))
}

impl Driver for Absent {
    fn name(&self) -> &'static str {
        "none"
    }
    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn independent_layers(&self) -> bool {
        false
    }
    fn has_layer(&self, _: &str) -> bool {
        false
    }
    fn stage(&self, _: &str, _: Option<&str>) -> Result<Box<dyn Staging>> {
        absent()
    }
    fn remove_layer(&self, _: &str) -> Result<()> {
        absent()
    }
    fn layer_root(&self, _: &str) -> Result<File> {
        absent()
    }
    fn create_rw(&self, _: &str, _: &[String], _: RwOptions) -> Result<()> {
        absent()
    }
    fn mount_rw(&self, _: &str, _: &[String], _: RwOptions) -> Result<OwnedFd> {
        absent()
    }
    fn mount_ro(&self, _: &[String]) -> Result<OwnedFd> {
        absent()
    }
    fn remove_rw(&self, _: &str) -> Result<()> {
        absent()
    }
    fn upper_root(&self, _: &str) -> Result<Option<File>> {
        absent()
    }
    fn list(&self) -> Result<(Vec<String>, Vec<String>)> {
        Ok((Vec::new(), Vec::new()))
    }
    fn paths(&self, _: &str, _: &[String]) -> Vec<(&'static str, PathBuf)> {
        Vec::new()
    }
}
