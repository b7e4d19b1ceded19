//! Error kind → HTTP status. The only table of its kind. Pure.

use crate::error::Kind;

/// 0 for a client that is gone: nothing is sent.
pub fn of(kind: Kind) -> u16 {
    match kind {
        Kind::NotFound => 404,
        Kind::Invalid => 400,
        Kind::Conflict => 409,
        Kind::NotModified => 304,
        Kind::Unauthorized => 401,
        Kind::Forbidden => 403,
        Kind::NotImplemented => 501,
        Kind::Unavailable => 503,
        Kind::System => 500,
        Kind::Cancelled => 0,
    }
}

pub fn reason(status: u16) -> &'static str {
    match status {
        101 => "UPGRADED",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Request Entity Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
