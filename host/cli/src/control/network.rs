//! What the monitor and QMP say of user networks, and their forwards.

use super::{
    hub::Hub,
    order::{Answer, Refusal},
};
use crate::{failure::printable, io::User};
use reprise_net::{Info, config::Forward};
use serde_json::{Value, json};
use std::{fmt::Write as _, sync::Arc, sync::atomic::Ordering};

/// Everything that is known about them.
pub(super) fn query(hub: &Hub) -> Answer {
    let one = |user: Arc<User>| {
        let info = user.handle.info().map_err(|error| Refusal::new(error.to_string()))?;
        let mut object = serde_json::to_value(info).map_err(|error| Refusal::new(error.to_string()))?;
        object["id"] = user.id.as_str().into();
        Ok(object)
    };
    hub.networks().into_iter().map(one).collect::<Result<Vec<Value>, Refusal>>().map(Value::Array)
}

/// The same for people, in the shape of QEMU's `info usernet`.
pub(super) fn table(hub: &Hub) -> String {
    let networks = hub.networks();
    if networks.is_empty() {
        return "there is no user network\n".to_owned();
    }
    networks
        .iter()
        .map(|user| match user.handle.info() {
            Ok(info) => rows(&user.id, &info),
            Err(error) => format!("{}: {error}\n", user.id),
        })
        .collect()
}

fn rows(id: &str, info: &Info) -> String {
    let mut out = format!("{id}:\n");
    let mut row = |what: &str, from: &str, to: &str, more: &str| {
        writeln!(out, "  {what:<22} {from:>30} {to:>30} {more}").expect("writing to a string cannot fail");
    };
    row("Protocol[State]", "Source Address", "Dest. Address", "Bytes out, in; waiting out, in");
    for flow in &info.tcp {
        let (out, back) = flow.waiting_bytes;
        let bytes = format!("{}, {}; {out}, {back}", flow.from_guest_bytes, flow.to_guest_bytes);
        row(&format!("TCP[{}]", flow.state), &flow.guest.to_string(), &flow.peer.to_string(), &bytes);
    }
    for flow in &info.udp {
        let peers = format!("{} peers", flow.peers);
        row("UDP", &flow.guest.to_string(), &peers, if flow.answered { "" } else { "no answer yet" });
    }
    for forward in &info.forwards {
        let guest = forward.guest.map_or_else(|| "*".to_owned(), |guest| guest.to_string());
        let to = format!("{guest}:{}", forward.guest_port);
        row("HOST_FORWARD", &printable(&forward.listens), &to, &printable(&forward.forward));
    }
    let (from, to) = (info.frames_from_guest, info.frames_to_guest);
    writeln!(out, "  frames: {from} from the guest, {to} to it").expect("writing to a string cannot fail");
    for (reason, count) in &info.dropped {
        writeln!(out, "  dropped: {count} {reason}").expect("writing to a string cannot fail");
    }
    out
}

/// The network of that name, or the only one.
fn find(hub: &Hub, id: Option<&str>) -> Result<Arc<User>, Refusal> {
    let mut networks = hub.networks();
    if let Some(id) = id {
        networks.retain(|user| user.id == id);
    }
    match (networks.len(), id) {
        (1, _) => Ok(networks.remove(0)),
        (0, None) => Err(Refusal::new("there is no user network")),
        (_, Some(id)) => Err(Refusal::new(format!("there is no user network \"{id}\""))),
        (_, None) => Err(Refusal::new("there are several user networks: say which")),
    }
}

/// Forward a port from now on; says where the host listens.
pub(super) fn forward(hub: &Hub, id: Option<&str>, spec: &str) -> Answer {
    let forward: Forward = spec.parse().map_err(|error| Refusal::new(format!("{error}")))?;
    let user = find(hub, id)?;
    let added = user.handle.forward_add(forward).map_err(|error| Refusal::new(error.to_string()))?;
    user.listens.store(true, Ordering::Relaxed);
    serde_json::to_value(added).map_err(|error| Refusal::new(error.to_string()))
}

/// No more.
pub(super) fn unforward(hub: &Hub, id: Option<&str>, spec: &str) -> Answer {
    let user = find(hub, id)?;
    user.handle.forward_remove(spec).map_err(|error| Refusal::new(error.to_string()))?;
    let left = user.handle.forward_list().map_err(|error| Refusal::new(error.to_string()))?;
    user.listens.store(!left.is_empty(), Ordering::Relaxed);
    Ok(json!({}))
}

/// For `hostfwd_add` and `hostfwd_remove` of the monitor.
pub(super) fn said_forwards(answer: &Value) -> Value {
    let rows = answer.as_array().into_iter().flatten();
    let row = |row: &Value| format!("{}\n", printable(row["forward"].as_str().unwrap_or_default()));
    rows.map(row).collect::<String>().into()
}
