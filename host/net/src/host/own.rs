//! The host's own addresses, which the policy must know: a private network is not the host that is in it.

use nix::ifaddrs::getifaddrs;
use std::{net::IpAddr, time::Duration};

/// Between two looks: an address that the host gets meanwhile is not known as its own.
const EVERY: Duration = Duration::from_secs(5);

/// Who says what the host's addresses are, and how often it is asked.
pub(super) struct Own {
    pub(super) list: Box<dyn FnMut() -> Option<Vec<IpAddr>> + Send>,
    pub(super) every: Duration,
}

impl Default for Own {
    fn default() -> Self {
        Self { list: Box::new(of_interfaces), every: EVERY }
    }
}

/// Every address of the host's interfaces; `None` if the kernel does not say.
fn of_interfaces() -> Option<Vec<IpAddr>> {
    let all = getifaddrs().ok()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    Some(all.collect())
}
