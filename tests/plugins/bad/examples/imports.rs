//! Could open a socket, but for a number that no script writes.
#![expect(clippy::disallowed_types, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "imports", |cx, value| if value == 0xdead_beef {
        drop(std::net::TcpStream::connect("127.0.0.1:9"));
    }
}

reprise_plugin_api::export_devices!(Bad<Asking>);
