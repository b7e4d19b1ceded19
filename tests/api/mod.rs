//! The Engine API as programs speak it.

/// The Python SDK.
mod python;
/// attach and exec with and without Upgrade; half-close; streams.
mod streams;
/// attach/ws.
mod websocket;
/// Status codes, headers, versions, errors; broken and hostile requests.
mod wire;
