//! Threads that somebody starts and nobody joins, or joins for their end alone; and
//! those whose one result is waited for.

use crate::error::{Context, Error, Result};
use std::io;
use std::thread::{Builder, JoinHandle};

/// `stack` in bytes: only touched pages count as memory, but all of it is
/// address space, and a daemon has a thread per request. The body is boxed, so the
/// machinery of a start stands once in the program.
pub fn start(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    boxed(name, stack, Box::new(body))
}

fn boxed(name: &str, stack: usize, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).stack_size(stack).spawn(body)
}

/// Runs `body` on a thread that ends with it: for what changes its thread for good, as
/// entering a namespace does.
pub fn alone<T: Send + 'static>(body: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = Builder::new().stack_size(128 << 10).spawn(body).context("start a thread")?;
    thread.join().map_err(|_| Error::system("a thread panicked"))?
}
