//! Feature bits, and which goes with which. Virtio 1.2 §5.1.3.

use reprise_plugin_api::net::Offload;

/// The device takes frames from the driver whose checksum is left to do.
pub const CSUM: u64 = 1 << 0;
/// The driver takes such frames.
pub const GUEST_CSUM: u64 = 1 << 1;
/// The driver can change which offloads it takes.
pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
/// `mtu` is valid.
pub const MTU: u64 = 1 << 3;
/// `mac` is valid.
pub const MAC: u64 = 1 << 5;
/// The driver takes TCP segments of IPv4 as one frame.
pub const GUEST_TSO4: u64 = 1 << 7;
/// The driver takes TCP segments of IPv6 as one frame.
pub const GUEST_TSO6: u64 = 1 << 8;
/// Such frames may carry ECN's CWR.
pub const GUEST_ECN: u64 = 1 << 9;
/// The device takes TCP segments of IPv4 as one frame.
pub const HOST_TSO4: u64 = 1 << 11;
/// The device takes TCP segments of IPv6 as one frame.
pub const HOST_TSO6: u64 = 1 << 12;
/// Such frames may carry ECN's CWR.
pub const HOST_ECN: u64 = 1 << 13;
/// A frame may take several receive buffers.
pub const MRG_RXBUF: u64 = 1 << 15;
/// `status` is valid.
pub const STATUS: u64 = 1 << 16;
/// There is a control queue.
pub const CTRL_VQ: u64 = 1 << 17;
/// The control queue sets the receive modes.
pub const CTRL_RX: u64 = 1 << 18;
/// The control queue sets the VLAN filter.
pub const CTRL_VLAN: u64 = 1 << 19;
/// The control queue sets further receive modes.
pub const CTRL_RX_EXTRA: u64 = 1 << 20;
/// The device asks the driver to make itself known.
pub const GUEST_ANNOUNCE: u64 = 1 << 21;
/// The control queue sets the MAC address.
pub const CTRL_MAC_ADDR: u64 = 1 << 23;
/// The driver takes UDP datagrams of IPv4 as one frame.
pub const GUEST_USO4: u64 = 1 << 54;
/// The driver takes UDP datagrams of IPv6 as one frame.
pub const GUEST_USO6: u64 = 1 << 55;
/// The device takes UDP datagrams as one frame.
pub const HOST_USO: u64 = 1 << 56;
/// `speed` and `duplex` are valid.
pub const SPEED_DUPLEX: u64 = 1 << 63;

/// What the device offers whatever its options are.
pub(crate) const ALWAYS: u64 = MTU
    | MAC
    | MRG_RXBUF
    | STATUS
    | CTRL_VQ
    | CTRL_RX
    | CTRL_VLAN
    | CTRL_RX_EXTRA
    | GUEST_ANNOUNCE
    | CTRL_MAC_ADDR
    | SPEED_DUPLEX;

/// What the driver may take from the device, and change by CTRL_GUEST_OFFLOADS. §5.1.6.5.6.
pub(crate) const GUEST_OFFLOADS: u64 =
    GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_USO4 | GUEST_USO6;

/// What the option `offloads` switches.
pub(crate) const OFFLOADS: u64 =
    CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_USO | GUEST_OFFLOADS | CTRL_GUEST_OFFLOADS;

/// What each feature requires one of. §5.1.3.1.
const REQUIRES: [(u64, u64); 15] = [
    (GUEST_TSO4, GUEST_CSUM),
    (GUEST_TSO6, GUEST_CSUM),
    (GUEST_ECN, GUEST_TSO4 | GUEST_TSO6),
    (GUEST_USO4, GUEST_CSUM),
    (GUEST_USO6, GUEST_CSUM),
    (HOST_TSO4, CSUM),
    (HOST_TSO6, CSUM),
    (HOST_ECN, HOST_TSO4 | HOST_TSO6),
    (HOST_USO, CSUM),
    (CTRL_RX, CTRL_VQ),
    (CTRL_VLAN, CTRL_VQ),
    (GUEST_ANNOUNCE, CTRL_VQ),
    (CTRL_MAC_ADDR, CTRL_VQ),
    (CTRL_RX_EXTRA, CTRL_VQ),
    (CTRL_GUEST_OFFLOADS, CTRL_VQ),
];

/// Whether each of `features` has what it requires among them.
pub(crate) fn complete(features: u64) -> bool {
    REQUIRES.iter().all(|(feature, one_of)| features & feature == 0 || features & one_of != 0)
}

/// Offloads in use, as a port has them.
pub(crate) fn offload(guest_offloads: u64, mtu: u32) -> Offload {
    let has = |bit| guest_offloads & bit != 0;
    Offload {
        checksum: has(GUEST_CSUM),
        tso4: has(GUEST_TSO4),
        tso6: has(GUEST_TSO6),
        ecn: has(GUEST_ECN),
        uso4: has(GUEST_USO4),
        uso6: has(GUEST_USO6),
        mtu,
    }
}
