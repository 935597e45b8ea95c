//! Talking to a running NGINX: its status server, its log lines, its processes and sockets as the kernel shows
//! them.
//!
//! Nothing here decides anything, and an answer that is not known is an error.

mod log;
mod processes;
mod sockets;
mod status;

#[cfg(any(fuzzing, test))]
pub(crate) use self::log::parse as parse_line;
pub(crate) use self::log::{Logged, Receiver, Target as LogTarget};
pub(crate) use self::processes::{Processes, orphans};
#[cfg(any(fuzzing, test))]
pub(crate) use self::sockets::parse as parse_connection;
pub(crate) use self::sockets::{clients_of, connections, shares_network, shut};
pub(crate) use self::status::{Status, StatusSocket};
