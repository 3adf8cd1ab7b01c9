//! Domain names on the wire: a length byte before each label, a zero at the end (RFC 1035 §3.1).

/// Appends a checked name, without compression.
pub(super) fn write(name: &str, out: &mut Vec<u8>) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
}

/// Several names, one after the other, as DHCP and router advertisements list them.
pub(super) fn list(names: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    names.iter().for_each(|name| write(name, &mut out));
    out
}
