//! The one integration-test binary. Topics in the order a newcomer should read them.

/// The house rules as assertions: layers, file heads, sizes, unsafe.
mod tidy;
