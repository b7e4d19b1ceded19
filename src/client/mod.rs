//! One typed method per endpoint of the Engine API, no formatting. Runs in the docker process.

#![forbid(unsafe_code)]
