//! The C library's allocator: giving pages back, bounding arenas.

/// Returns free heap pages to the kernel. Cheap enough after a burst.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
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
