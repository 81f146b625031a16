//! Other parsers, for a second opinion. What compares is also part of the fuzz targets, which include these files:
//! they name the crate from outside.

pub(super) mod proxy_header;
pub(super) mod tls_parser;
