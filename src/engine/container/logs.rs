//! Old output for those who attach with `logs=1`.
use super::{Container, attach};
use crate::engine::Engine;
use crate::error::Result;
use std::os::fd::BorrowedFd;
pub fn replay(_: &Engine, _: &Container, _: BorrowedFd<'_>, _: &attach::Options) -> Result<()> {
    Ok(())
}
