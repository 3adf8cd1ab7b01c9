//! Links: messages between devices, each on its way from the callback that sent it to right behind it.

use crate::board::LinkSpec;
use std::collections::{BTreeMap, VecDeque};

/// Two devices that answer each other with ever more must not take the host's memory before they are found out.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Where the other end of a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// A controller's: its targets by address, as device and link.
    Targets(BTreeMap<u32, (usize, u32)>),
    /// A target's: its controller, as device and link, and its first address and how many.
    Controller { device: usize, link: u32, at: u32, addresses: u32 },
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) device: usize,
    pub(crate) link: u32,
    pub(crate) at: u32,
    /// `None`: a controller's own message comes back, for nobody is there.
    pub(crate) data: Option<Vec<u8>>,
}

/// Who is linked to whom, and what is on its way. Nothing is ever on its way where a snapshot is taken.
#[derive(Debug)]
pub(crate) struct Links {
    /// `ends[d][l]`: the other end of link `l` of device `d`.
    ends: Vec<Vec<End>>,
    queue: VecDeque<Message>,
    queued_bytes: usize,
}

impl Links {
    /// `declared[d]` is how many links device `d` has.
    pub(crate) fn new(declared: &[usize], links: &[LinkSpec]) -> Links {
        let nobody = |&count: &usize| vec![End::Targets(BTreeMap::new()); count];
        let mut ends: Vec<Vec<End>> = declared.iter().map(nobody).collect();
        for spec in links {
            let (target, controller) =
                ((spec.target, spec.target_link), (spec.controller, spec.controller_link));
            ends[target.0][target.1 as usize] = End::Controller {
                device: controller.0,
                link: controller.1,
                at: spec.at,
                addresses: spec.addresses,
            };
            if let End::Targets(targets) = &mut ends[controller.0][controller.1 as usize] {
                targets.extend((spec.at..).take(spec.addresses as usize).map(|at| (at, target)));
            }
        }
        Links { ends, queue: VecDeque::new(), queued_bytes: 0 }
    }

    /// How many links a device declared.
    pub(crate) fn declared(&self, device: usize) -> usize {
        self.ends[device].len()
    }

    /// A device speaks. An error is what it did wrong.
    pub(crate) fn send(&mut self, device: usize, link: u32, at: u32, data: &[u8]) -> Result<(), String> {
        let message = match &self.ends[device][link as usize] {
            End::Targets(targets) => match targets.get(&at) {
                Some(&(device, link)) => Message { device, link, at, data: Some(data.to_vec()) },
                None => Message { device, link, at, data: None },
            },
            End::Controller { at: first, addresses, .. } if at.wrapping_sub(*first) >= *addresses => {
                return Err(format!("speaks as address {at:#x} of a link on which it is {first:#x}"));
            }
            End::Controller { device, link, .. } => {
                Message { device: *device, link: *link, at, data: Some(data.to_vec()) }
            }
        };
        let queued_bytes = self.queued_bytes + message.data.as_ref().map_or(0, Vec::len);
        if queued_bytes > MAX_QUEUED_BYTES {
            return Err(format!("sends more than {MAX_QUEUED_BYTES} bytes of messages at one instant"));
        }
        self.queued_bytes = queued_bytes;
        self.queue.push_back(message);
        Ok(())
    }

    /// The next message, in the order in which they were sent.
    pub(crate) fn take(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.queued_bytes -= message.data.as_ref().map_or(0, Vec::len);
        Some(message)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forget what is on its way.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Device 0 is the controller, 1 and 2 are targets, one of them with two addresses.
    fn links() -> Links {
        let spec = |target, at, addresses| LinkSpec {
            target,
            target_link: 0,
            controller: 0,
            controller_link: 1,
            at,
            addresses,
        };
        Links::new(&[2, 1, 1], &[spec(1, 0x50, 2), spec(2, 0x48, 1)])
    }

    #[test]
    fn messages_arrive_in_order_at_the_other_end() {
        let mut links = links();
        links.send(0, 1, 0x51, &[1]).unwrap();
        links.send(0, 1, 0x48, &[2]).unwrap();
        links.send(1, 0, 0x51, &[3]).unwrap();
        let message = |device, link, at, data: &[u8]| Message { device, link, at, data: Some(data.to_vec()) };
        let found: Vec<Message> = std::iter::from_fn(|| links.take()).collect();
        assert_eq!(found, [message(1, 0, 0x51, &[1]), message(2, 0, 0x48, &[2]), message(0, 1, 0x51, &[3])]);
        assert!(links.is_quiet());
    }

    #[test]
    fn who_speaks_to_nobody_hears_of_it() {
        let mut links = links();
        for (link, at) in [(1, 0x52), (0, 0x50)] {
            links.send(0, link, at, &[1]).unwrap();
            assert_eq!(links.take(), Some(Message { device: 0, link, at, data: None }));
        }
    }

    #[test]
    fn nobody_speaks_as_another() {
        let mut links = links();
        assert_eq!(
            links.send(2, 0, 0x50, &[1]),
            Err("speaks as address 0x50 of a link on which it is 0x48".to_owned())
        );
        assert!(links.send(1, 0, 0x4f, &[1]).is_err() && links.send(1, 0, 0x52, &[1]).is_err());
        assert!(links.is_quiet());
    }
}
