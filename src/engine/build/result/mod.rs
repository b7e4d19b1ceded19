//! What a build leaves: the image, and where else its result goes.

pub mod finish;
pub mod output;
