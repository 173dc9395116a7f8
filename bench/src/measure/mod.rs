//! What a run costs and where it ran: processes, threads and block devices, from /proc and /sys.

pub mod cores;
pub mod device;
pub mod environment;
pub mod process;
