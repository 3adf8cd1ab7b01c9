//! The core between a scripted guest and a host made of queues. Every frame that leaves is read again by another
//! parser.

pub(crate) mod card;
mod corpus;
mod fuzz;
mod harness;
mod limits;
mod link;
pub(crate) mod parse;
mod recovery;
mod sequence;
mod silence;
mod simulate;
mod tcp;
mod time;
mod udp;
mod whereabouts;

use super::packet::IpHead;
