//! ALL UNSAFE: thin wrappers over system calls, allocation-free where they are
//! used after a clone, on `&CStr` and `BorrowedFd`, returning `OwnedFd`.
//!
//! Invariant: knows nothing of the rest of the program; a SAFETY comment at
//! every block says what the kernel or libc asks for and why it holds here.
