//! What a careful operator writes by hand: the configurations ours are measured against.

pub mod haproxy;
pub mod nginx;
