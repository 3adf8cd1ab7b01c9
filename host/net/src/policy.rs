//! What may leave and enter: ordered rules, then a profile. Judged on the final destination, after every mapping.
//!
//! A door that should be shut must not be open under another name. So addresses that carry an IPv4 address within are
//! judged by that too, the guest's name for the host is judged as the host's loopback, and a rule that *allows* a
//! group allows only what is in no other group: the host's own address in a private network is not opened by `private`.
//! Nor does a rule about everything, or about a network that is more than such a group, open the host, its links or the
//! secrets of its cloud: they must be named.

mod group;
mod rule;
#[cfg(test)]
mod tests;

pub use group::Group;
pub use rule::{Action, Direction, Place, Places, PortSet, Rule, Transport};

use crate::address::Cidr;
use group::{Groups, judged};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What holds where no rule matches. Each allows what the one before it allows, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Nothing leaves: forwards alone, and what the network itself answers (DHCP, router advertisements, ping, TFTP).
    None,
    /// The public internet.
    #[default]
    Public,
    /// And private networks.
    Lan,
    /// And the host: its own addresses and, at the guest's name for it, its loopback.
    Host,
    /// And link-local, reserved and metadata addresses: all that can leave at all.
    All,
}

impl Profile {
    /// The groups that it allows; an address with any other group is refused.
    const fn allowed(self) -> Groups {
        match self {
            Self::None => Groups::NONE,
            Self::Public => Groups::of(&[Group::Public]),
            Self::Lan => Groups::of(&[Group::Public, Group::Private]),
            Self::Host => {
                Groups::of(&[Group::Public, Group::Private, Group::Host, Group::Gateway, Group::Loopback])
            }
            Self::All => Groups::ALL,
        }
    }
}

/// What is asked: may this connection, datagram or echo pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whose idea it was: out is the guest's, in is that of a peer of a forward.
    pub direction: Direction,
    /// Never [`Transport::Any`].
    pub transport: Transport,
    /// Out: the destination as the guest wrote it. In: the peer.
    pub peer: IpAddr,
    /// Out: the destination's port. In: the guest's. 0 where there is none.
    pub port: u16,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// It may.
    Allow,
    /// Pretend that nothing is there.
    Drop,
    /// Say so: a reset, or "administratively prohibited".
    Reject,
    /// It may, through the proxy of that name.
    Proxy(&'p str),
}

/// The answer, and where it really goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// Whether it may.
    pub verdict: Verdict<'p>,
    /// The address that the host is to connect or send to. For what comes in, the peer.
    pub to: IpAddr,
}

/// Where the guest lives: its virtual network, and what of it stands for the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The virtual networks. What is in them and is not the host's name never leaves.
    pub networks: Vec<Cidr>,
    /// The guest's names for the host's loopback.
    pub host: Vec<IpAddr>,
    /// Addresses at which the network itself answers.
    pub gateway: Vec<IpAddr>,
}

/// Rules, profile and surroundings.
#[derive(Clone, Debug)]
pub struct Policy {
    profile: Profile,
    rules: Vec<Rule>,
    upstream: Option<String>,
    surroundings: Surroundings,
    /// The host's own addresses, sorted.
    own: Vec<IpAddr>,
}

impl Policy {
    /// Rules are tried in order; the first that matches decides. `upstream` is the proxy that takes TCP connections
    /// which the profile allows.
    #[must_use]
    pub fn new(
        profile: Profile,
        rules: Vec<Rule>,
        upstream: Option<String>,
        surroundings: Surroundings,
    ) -> Self {
        Self { profile, rules, upstream, surroundings, own: Vec::new() }
    }

    /// The addresses of the host's interfaces: group `host`. To be called again when they change.
    pub fn set_own_addresses(&mut self, mut own: Vec<IpAddr>) {
        own.sort_unstable();
        own.dedup();
        self.own = own;
    }

    /// May it pass, and where to?
    #[must_use]
    pub fn decide(&self, query: &Query) -> Decision<'_> {
        let subject = self.subject(query);
        let verdict = match query.direction {
            Direction::Out if self.never_leaves(&subject) => Verdict::Drop,
            Direction::Out | Direction::In => self.first_match(query, &subject),
        };
        Decision { verdict, to: subject.to }
    }

    fn first_match(&self, query: &Query, subject: &Subject) -> Verdict<'_> {
        match self.rules.iter().find(|rule| matches(rule, query, subject)) {
            Some(rule) => match &rule.action {
                Action::Allow => Verdict::Allow,
                Action::Drop => Verdict::Drop,
                Action::Reject => Verdict::Reject,
                Action::Proxy(name) => Verdict::Proxy(name),
            },
            None => self.by_profile(query, subject),
        }
    }

    fn by_profile(&self, query: &Query, subject: &Subject) -> Verdict<'_> {
        match query.direction {
            // Nothing comes in but through forwards, and each of those was asked for.
            Direction::In => Verdict::Allow,
            Direction::Out if !subject.groups_within(self.profile.allowed()) => Verdict::Reject,
            Direction::Out => match &self.upstream {
                Some(name) if query.transport == Transport::Tcp && !subject.mapped => Verdict::Proxy(name),
                Some(_) | None => Verdict::Allow,
            },
        }
    }

    /// Multicast, broadcast and "this host" mean something else on the host's network than in the guest's; and the
    /// guest's network ends here.
    fn never_leaves(&self, subject: &Subject) -> bool {
        const NEVER: Groups =
            Groups::of(&[Group::Multicast, Group::Broadcast, Group::Unspecified, Group::Guest]);
        subject.forms.iter().flatten().any(|(_, groups)| groups.meets(NEVER))
    }

    fn subject(&self, query: &Query) -> Subject {
        let plain = query.peer.to_canonical();
        let mapped = query.direction == Direction::Out && self.surroundings.host.contains(&plain);
        let to = match plain {
            IpAddr::V4(_) if mapped => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) if mapped => IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(_) | IpAddr::V6(_) => plain,
        };
        let forms = judged(to).map(|form| form.map(|address| (address, self.groups(address, plain, mapped))));
        Subject { written: plain, to, mapped, forms }
    }

    fn groups(&self, address: IpAddr, written: IpAddr, mapped: bool) -> Groups {
        let mut groups = group::of_address(address);
        if mapped || self.own.binary_search(&address).is_ok() {
            groups = groups.with(Group::Host);
        }
        if self.surroundings.gateway.contains(&written) {
            groups = groups.with(Group::Gateway);
        }
        if !mapped && self.surroundings.networks.iter().any(|network| network.contains(address)) {
            groups = groups.with(Group::Guest);
        }
        if groups == Groups::NONE { Groups::of(&[Group::Public]) } else { groups }
    }
}

/// A peer, as it is judged.
struct Subject {
    /// Without an IPv4-mapped form.
    written: IpAddr,
    to: IpAddr,
    /// The guest's name for the host.
    mapped: bool,
    /// Each address that a packet may end at, and what that is.
    forms: [Option<(IpAddr, Groups)>; 2],
}

impl Subject {
    fn groups_within(&self, allowed: Groups) -> bool {
        self.forms.iter().flatten().all(|(_, groups)| groups.within(allowed))
    }

    /// For a rule that shuts: any form, any group.
    fn touches(&self, place: &Place) -> bool {
        match place {
            Place::Group(group) => self.forms.iter().flatten().any(|(_, groups)| groups.has(*group)),
            Place::Network(network) => {
                let forms = self.forms.iter().flatten().map(|(address, _)| *address);
                forms.chain([self.written]).any(|address| network.contains(address))
            }
        }
    }

    /// For a rule that opens without naming a place.
    fn is_inner(&self) -> bool {
        self.forms.iter().flatten().any(|(_, groups)| groups.meets(group::INNER))
    }

    /// For a rule that opens: every form, and all its groups.
    fn lies_within(&self, places: &[Place], direction: Direction) -> bool {
        self.forms.iter().flatten().all(|(address, groups)| {
            let named = places.iter().filter_map(|place| match place {
                Place::Group(group) => Some(*group),
                Place::Network(_) => None,
            });
            let inside = |place: &Place| match place {
                Place::Network(network) if network.contains(*address) => {
                    direction == Direction::In || means(network, *groups)
                }
                Place::Network(_) | Place::Group(_) => false,
            };
            let (has, covered) = named.fold((false, Groups::NONE), |(has, covered), group| {
                (has || groups.has(group), covered.union(group.covers()))
            });
            (has && groups.within(covered)) || places.iter().any(inside)
        })
    }
}

/// Whether who writes this network means an address in it that is of these groups: a network that has loopback,
/// link-local or metadata addresses among others does not mean them. The host's own addresses, which have no network of
/// their own, are meant by each that is not simply a part of the internet, or is one address.
fn means(network: &Cidr, groups: Groups) -> bool {
    let all = group::of_network(network);
    let host = Groups::of(&[Group::Host]);
    let is_one = network.first() == network.last();
    groups.both(group::INNER).within(all.union(host))
        && (!groups.meets(host) || is_one || all != Groups::NONE)
}

fn matches(rule: &Rule, query: &Query, subject: &Subject) -> bool {
    let place = match (&rule.to, &rule.action) {
        (None, Action::Drop | Action::Reject) => true,
        (None, Action::Allow | Action::Proxy(_)) => rule.direction == Direction::In || !subject.is_inner(),
        (Some(places), Action::Drop | Action::Reject) => places.0.iter().any(|place| subject.touches(place)),
        (Some(places), Action::Allow | Action::Proxy(_)) => subject.lies_within(&places.0, rule.direction),
    };
    let transport = match (rule.protocol, &rule.action) {
        // A proxy carries nothing else.
        (Transport::Any, Action::Proxy(_)) => query.transport == Transport::Tcp,
        (Transport::Any, Action::Allow | Action::Drop | Action::Reject) => true,
        (wanted, _) => wanted == query.transport,
    };
    let ports =
        rule.ports.as_ref().is_none_or(|ports| query.transport.has_ports() && ports.contains(query.port));
    rule.direction == query.direction && place && transport && ports
}
