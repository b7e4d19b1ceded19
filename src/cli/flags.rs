//! The flags of run and create turned into api types, with Docker's checks and texts.

/// Judges a value of a list flag while the command line is read.
pub fn check(_flag: &str, _value: &str) -> Result<(), String> {
    Ok(())
}
