//! Links: from a target to its controller, written at the target as `links.bus = "i2c0.bus@0x50"`.

use super::{
    LinkSpec,
    device::Draft,
    diagnostic::{Code, Report},
    document::{Entry, Origin},
    fields,
    wires::Circuit,
};
use reprise_abi::desc::{Link, LinkRole};
use std::collections::BTreeMap;

/// A link read, and where its value was written.
type Written<'d> = (LinkSpec, &'d Origin);

/// Read the links of every device.
pub(super) fn read(circuit: &Circuit<'_, '_>, report: &mut Report<'_>) -> Vec<LinkSpec> {
    let mut links: Vec<Written<'_>> = Vec::new();
    for (index, draft) in circuit.drafts.iter().enumerate() {
        report.about(Some(&draft.spec.id));
        links.extend(of_device(circuit, index, draft, report));
    }
    conflicts(circuit, &links, report);
    report.about(None);
    links.into_iter().map(|(link, _)| link).collect()
}

fn of_device<'d>(
    circuit: &Circuit<'_, 'd>,
    index: usize,
    draft: &Draft<'d>,
    report: &mut Report<'_>,
) -> Vec<Written<'d>> {
    let links = &draft.spec.desc.links;
    let table = draft.links.and_then(|node| fields::table(node, "links", report));
    let entries: &[Entry] = table.map_or(&[], |table| &table.entries);
    let mut found = Vec::new();
    for entry in entries {
        let Some(id) = links.iter().position(|link| link.name == entry.key) else {
            report
                .error(
                    Code::UnknownLink,
                    &entry.key_origin,
                    format!("the device has no link `{}`", entry.key),
                )
                .suggest(&entry.key, links.iter().map(|link| link.name.as_str()));
            continue;
        };
        if links[id].role == LinkRole::Controller {
            report
                .error(
                    Code::Wiring,
                    &entry.key_origin,
                    format!("the device is the controller of `{}`", entry.key),
                )
                .help(
                    "links are written at their targets, with an address: `links.bus = \"device.link@0x50\"`",
                );
            continue;
        }
        let origin = &entry.node.origin;
        let Some(text) = fields::string(&entry.node, "links", report) else { continue };
        let end = controller(circuit, &text, &links[id], origin, report);
        found.extend(end.map(|(controller, controller_link, at)| {
            let (target_link, addresses) = (id as u32, links[id].addresses);
            (LinkSpec { target: index, target_link, controller, controller_link, at, addresses }, origin)
        }));
    }
    for link in links.iter().filter(|link| link.role == LinkRole::Target) {
        if !entries.iter().any(|entry| entry.key == link.name) {
            report
                .error(Code::Missing, draft.at, format!("the device's link `{}` leads nowhere", link.name))
                .help(format!(
                    "name a controller of {}: `links.{} = \"device.link@address\"`",
                    link.protocol, link.name
                ));
        }
    }
    found
}

/// What `DEVICE.LINK@ADDRESS` names: device, link and address.
fn controller(
    circuit: &Circuit<'_, '_>,
    text: &str,
    target: &Link,
    at: &Origin,
    report: &mut Report<'_>,
) -> Option<(usize, u32, u32)> {
    let parts = text.split_once('@').and_then(|(end, address)| Some((end.split_once('.')?, address)));
    let Some(((id, name), address)) = parts else {
        report
            .error(Code::BadValue, at, format!("`{text}` is no end of a link"))
            .help("write `device.link@address`, as in \"i2c0.bus@0x50\"");
        return None;
    };
    let Some(device) = circuit.drafts.iter().position(|draft| draft.spec.id == id) else {
        // Of a device that could not be read there is a mistake already.
        if !circuit.ids.contains(&id) {
            report
                .error(Code::UnknownLink, at, format!("the board has no device `{id}`"))
                .suggest(id, circuit.ids.iter().copied());
        }
        return None;
    };
    let links = &circuit.drafts[device].spec.desc.links;
    let controllers = links.iter().filter(|link| link.role == LinkRole::Controller);
    let Some(link) = links.iter().position(|link| link.name == name && link.role == LinkRole::Controller)
    else {
        report
            .error(Code::UnknownLink, at, format!("`{id}` controls no link `{name}`"))
            .suggest(name, controllers.map(|link| link.name.as_str()));
        return None;
    };
    let spoken = &links[link].protocol;
    if *spoken != target.protocol {
        report
            .error(
                Code::Wiring,
                at,
                format!("`{id}.{name}` speaks {spoken}, `{}` {}", target.name, target.protocol),
            )
            .help("connect links of one protocol");
        return None;
    }
    let address = address_in(address, links[link].addresses, target.addresses, at, report)?;
    Some((device, link as u32, address))
}

fn address_in(text: &str, there_are: u32, wanted: u32, at: &Origin, report: &mut Report<'_>) -> Option<u32> {
    let digits = text.strip_prefix("0x");
    let number = digits.map_or_else(|| text.parse::<u32>().ok(), |hex| u32::from_str_radix(hex, 16).ok());
    let Some(address) = number else {
        report
            .error(Code::BadValue, at, format!("`{text}` is no address"))
            .help("write a number: 80 or 0x50");
        return None;
    };
    if address.checked_add(wanted).is_none_or(|end| end > there_are) {
        let remarks = report.error(Code::OutOfRange, at, format!("address {address:#x} is out of range"));
        let last = there_are.saturating_sub(wanted);
        match wanted {
            1 => remarks.label(format!("0 to {last:#x}")),
            _ => remarks.label(format!("0 to {last:#x}: the device takes {wanted} addresses")),
        };
        return None;
    }
    Some(address)
}

/// Two targets cannot answer at one address.
fn conflicts(circuit: &Circuit<'_, '_>, links: &[Written<'_>], report: &mut Report<'_>) {
    let mut taken: BTreeMap<(usize, u32, u32), &Written<'_>> = BTreeMap::new();
    for written in links {
        let (link, at) = written;
        let addresses = (link.at..).take(link.addresses as usize);
        let clash = addresses.map(|at| (link.controller, link.controller_link, at)).find_map(|key| {
            let other = *taken.entry(key).or_insert(written);
            (other.0 != *link).then_some((key.2, other))
        });
        if let Some((address, (other, place))) = clash {
            let name = &circuit.drafts[other.target].spec.id;
            report.about(Some(&circuit.drafts[link.target].spec.id));
            report
                .error(Code::Wiring, at, format!("address {address:#x} is taken"))
                .also(place, format!("by `{name}`"))
                .help("give each target addresses of its own");
        }
    }
}
