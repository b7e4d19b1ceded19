//! Threads that somebody starts and nobody joins, or joins for their end alone.
//! The body is boxed, so the machinery of a start stands once in the program.

use std::io;
use std::thread::{Builder, JoinHandle};

/// `stack` in bytes: only touched pages count as memory, but all of it is
/// address space, and a daemon has a thread per request.
pub fn start(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    boxed(name, stack, Box::new(body))
}

fn boxed(name: &str, stack: usize, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).stack_size(stack).spawn(body)
}
