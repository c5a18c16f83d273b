//! Netlink: requests to the kernel, and what it answers (netlink(7)).

mod attribute;
mod message;
mod socket;

pub(crate) use attribute::{Attributes, Writer};
pub(crate) use message::{Answer, NFGENMSG, Request};
pub(crate) use socket::{Dump, Socket};
