//! How much a container's writable layer holds, and its whole root.

use super::image;
use super::record::Record;
use crate::engine::Engine;
use crate::engine::copy::changes::is_runtime_made;
use crate::engine::volume::list::folder_size;
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    pub rw: u64,
    pub root_fs: u64,
}

pub fn of(engine: &Engine, record: &Record) -> Result<Sizes> {
    // Through the descriptor: the driver's folder is the driver's business.
    let rw = match engine.driver.upper_root(&record.id)? {
        Some(dir) => folder_size(std::path::Path::new(&crate::sys::fd::proc_path(&dir)), &is_runtime_made),
        None => 0,
    };
    let base = image::size(engine, &record.image_id);
    Ok(Sizes { rw, root_fs: rw + base })
}
