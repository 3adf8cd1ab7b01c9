//! Opens a socket.
#![expect(clippy::disallowed_types, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "sockets", |cx, value| drop(std::net::UdpSocket::bind("127.0.0.1:0"))
}

reprise_plugin_api::export_devices!(Bad<Asking>);
