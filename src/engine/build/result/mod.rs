//! What a build leaves: the image or the index, where else its result goes, or
//! what can be said of its file.

pub mod checked;
pub mod finish;
pub mod index;
pub mod outline;
pub mod output;
