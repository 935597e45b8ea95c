#![forbid(unsafe_code)]
//! Strict readers of what the renderers write: proof, independent of them, that nothing escapes its line and that a
//! configuration holds its table and nothing else. For the properties of `lb-haproxy` and `lb-nginx` and the fuzz targets.

pub mod haproxy;
pub mod nginx;
