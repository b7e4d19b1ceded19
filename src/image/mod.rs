//! CONTENT: names, documents, blobs, registries. Runs in dockerd.

#![forbid(unsafe_code)]
