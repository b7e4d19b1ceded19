//! The Dockerfile language: text → nodes → instructions, and what is likely a
//! mistake in them. Pure: nothing here reads a file or knows an image.

pub mod check;
pub mod expand;
#[cfg(test)]
mod fuzzed;
pub mod instruction;
pub mod parser;
