//! The C library's allocator: giving pages back, bounding arenas and what is kept.

/// Returns free heap pages to the kernel. Cheap enough after a burst.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Blocks of so many bytes and more go back to the kernel as soon as they are freed.
/// Left alone, the allocator learns from the first that is freed to keep the next
/// ones, in each arena.
pub fn return_large(bytes: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes integers; both only bound what is kept.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

/// At most `n` arenas: a thread pool must not keep one heap per thread.
pub fn limit_arenas(n: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes integers; M_ARENA_MAX only bounds later arenas.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, n);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = n;
}
