//! Block ports: requests in flight, and the virtual deadlines at which they complete.

use crate::{
    board::DiskTiming,
    outside::{Disk, DiskChanges},
    section::{Fields, Section, SectionError},
};
use reprise_abi::hot;
use std::collections::BTreeMap;

/// The unit of every offset and length, in bytes.
const SECTOR: u64 = 512;
/// The longest request that the host serves, in bytes: a bound on what a guest can make the host allocate at once.
const MAX_REQUEST: u64 = 64 << 20;
/// Nanoseconds in a second.
const NS_PER_S: u128 = 1_000_000_000;

/// A request between submission and completion. Saved state.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) device: usize,
    pub(crate) port: u32,
    pub(crate) token: u64,
    op: u32,
    flags: u32,
    offset: u64,
    len: u64,
    data: Vec<u8>,
}

/// How a request ended.
pub(crate) struct Outcome {
    /// [`hot::BLK_DONE`] or [`hot::BLK_ERROR`].
    pub(crate) status: u32,
    /// What was read.
    pub(crate) data: Vec<u8>,
    /// The host's reason, for the log; a guest's mistake has none.
    pub(crate) host_error: Option<String>,
}

/// One disk behind one port.
struct Attached {
    disk: Box<dyn Disk>,
    /// When the last submitted transfer leaves the disk: transfers of one disk queue behind each other.
    busy_until_ns: u64,
    /// blake3 chain over everything written: stands for the content in the digest.
    written: [u8; 32],
}

/// All block ports.
pub(crate) struct Disks {
    timing: DiskTiming,
    attached: BTreeMap<(usize, u32), Attached>,
    in_flight: BTreeMap<u64, Request>,
    next_request: u64,
}

impl Disks {
    pub(crate) fn new(timing: DiskTiming) -> Disks {
        Disks { timing, attached: BTreeMap::new(), in_flight: BTreeMap::new(), next_request: 0 }
    }

    pub(crate) fn attach(&mut self, device: usize, port: u32, disk: Box<dyn Disk>) {
        let attached = Attached { disk, busy_until_ns: 0, written: [0; 32] };
        let before = self.attached.insert((device, port), attached);
        assert!(before.is_none(), "two disks for port {port} of device {device}");
    }

    /// What a device may know of its disk.
    pub(crate) fn info(&self, device: usize, port: u32) -> Option<hot::BlkInfo> {
        let disk = &self.attached.get(&(device, port))?.disk;
        Some(hot::BlkInfo {
            size_bytes: disk.size_bytes(),
            read_only: u32::from(disk.read_only()),
            block_size: 512,
            serial: disk.serial(),
        })
    }

    /// Take a request; returns its id and when it completes. `data` is what a write brings.
    pub(crate) fn submit(
        &mut self,
        now_ns: u64,
        device: usize,
        port: u32,
        req: &hot::BlkReq,
        data: &[u8],
    ) -> (u64, u64) {
        let id = self.next_request;
        self.next_request += 1;
        let transfer = match req.op {
            hot::BLK_READ | hot::BLK_WRITE => req.len.min(MAX_REQUEST),
            _ => 0,
        };
        let transfer_ns = u128::from(transfer) * NS_PER_S / u128::from(self.timing.bytes_per_second.max(1));
        let transfer_ns = u64::try_from(transfer_ns).unwrap_or(u64::MAX);
        let done_ns = match self.attached.get_mut(&(device, port)) {
            Some(disk) => {
                disk.busy_until_ns = disk.busy_until_ns.max(now_ns).saturating_add(transfer_ns);
                disk.busy_until_ns
            }
            None => now_ns,
        };
        let request = Request {
            device,
            port,
            token: req.token,
            op: req.op,
            flags: req.flags,
            offset: req.offset,
            len: req.len,
            data: data.to_vec(),
        };
        self.in_flight.insert(id, request);
        (id, done_ns.saturating_add(self.timing.latency_ns))
    }

    /// Do what request `id` asks: its deadline has come. Requests of one disk complete in the order of submission,
    /// so doing them only now cannot be seen.
    pub(crate) fn complete(&mut self, id: u64) -> (Request, Outcome) {
        let request = self.in_flight.remove(&id).expect("a disk deadline names a request in flight");
        let outcome = match self.attached.get_mut(&(request.device, request.port)) {
            Some(attached) => attached.execute(&request),
            None => Outcome::guest_error(),
        };
        (request, outcome)
    }

    /// After [`complete`](Self::complete), for a recording: tell the blocks of the image that the disk of this port had
    /// never read before ([`Disk::first_reads`]).
    pub(crate) fn first_reads(&mut self, device: usize, port: u32, tell: &mut dyn FnMut(u64, [u8; 32])) {
        if let Some(attached) = self.attached.get_mut(&(device, port)) {
            attached.disk.first_reads(tell);
        }
    }

    /// Ports that have a disk.
    pub(crate) fn attached_ports(&self) -> Vec<(usize, u32)> {
        self.attached.keys().copied().collect()
    }

    /// What has been written to each disk, by its port.
    pub(crate) fn images(&mut self) -> Vec<((usize, u32), DiskChanges)> {
        self.attached.iter_mut().map(|(&place, attached)| (place, attached.disk.changes())).collect()
    }

    /// A disk becomes what a snapshot says.
    pub(crate) fn set_image(&mut self, place: (usize, u32), changes: &DiskChanges) -> Result<(), String> {
        let attached = self.attached.get_mut(&place).expect("a port with a disk");
        attached.disk.set_changes(changes)
    }

    /// Ids of the requests in flight.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = u64> {
        self.in_flight.keys().copied()
    }

    /// Back to what [`Disks::save`] wrote. `find` says which port has a name, `name` the other way.
    pub(crate) fn load(
        &mut self,
        fields: &mut Fields<'_>,
        find: impl Fn(&str) -> Option<(usize, u32)>,
        name: impl Fn((usize, u32)) -> String,
    ) -> Result<(), SectionError> {
        self.next_request = fields.u64("next_request")?;
        self.in_flight.clear();
        let ids = fields.names("request");
        let ids: Vec<u64> = ids.iter().filter_map(|name| name.strip_suffix(".token")?.parse().ok()).collect();
        for id in ids {
            let request = load_request(id, fields, &find)?;
            if id >= self.next_request {
                return Err(fields.impossible("next_request"));
            }
            self.in_flight.insert(id, request);
        }
        for (&place, attached) in &mut self.attached {
            let name = name(place);
            attached.busy_until_ns = fields.u64(&format!("{name}.busy_until_ns"))?;
            attached.written = fields.array(&format!("{name}.written"))?;
        }
        Ok(())
    }

    /// A device is being reset: drop its requests in flight, unserved. Returns their ids.
    pub(crate) fn cancel_device(&mut self, device: usize) -> Vec<u64> {
        let dropped: Vec<u64> =
            self.in_flight.iter().filter(|(_, r)| r.device == device).map(|(&id, _)| id).collect();
        self.in_flight.retain(|id, _| !dropped.contains(id));
        dropped
    }

    /// For the saved state: requests in flight, and for each disk when it is free and the chain over what was written.
    /// `name` says what a device's port is called.
    pub(crate) fn save(&self, name: impl Fn(usize, u32) -> String, out: &mut Section<'_, '_>) {
        out.u64("next_request", self.next_request);
        for (&id, r) in &self.in_flight {
            let mut field = |field: &str, value| {
                out.u64(&format!("request{id}.{field}"), value);
            };
            field("token", r.token);
            field("op", r.op.into());
            field("flags", r.flags.into());
            field("offset", r.offset);
            field("len", r.len);
            out.text(&format!("request{id}.port"), &name(r.device, r.port));
            out.bytes(&format!("request{id}.data"), r.data.iter().copied());
        }
        for (&(device, port), a) in &self.attached {
            let name = name(device, port);
            out.u64(&format!("{name}.busy_until_ns"), a.busy_until_ns);
            out.bytes(&format!("{name}.written"), a.written);
        }
    }
}

fn load_request(
    id: u64,
    fields: &mut Fields<'_>,
    find: impl Fn(&str) -> Option<(usize, u32)>,
) -> Result<Request, SectionError> {
    let field = |name: &str| format!("request{id}.{name}");
    let port = fields.text(&field("port"))?;
    let (device, port) = find(port).ok_or_else(|| fields.impossible(&field("port")))?;
    Ok(Request {
        device,
        port,
        token: fields.u64(&field("token"))?,
        op: fields.u32(&field("op"))?,
        flags: fields.u32(&field("flags"))?,
        offset: fields.u64(&field("offset"))?,
        len: fields.u64(&field("len"))?,
        data: fields.bytes(&field("data"))?.to_vec(),
    })
}

impl Attached {
    fn execute(&mut self, r: &Request) -> Outcome {
        if !self.accepts(r) {
            return Outcome::guest_error();
        }
        let mut data = Vec::new();
        let result = match r.op {
            hot::BLK_READ => {
                data = vec![0; usize::try_from(r.len).expect("checked against MAX_REQUEST")];
                self.disk.read(r.offset, &mut data)
            }
            hot::BLK_WRITE => self.disk.write(r.offset, &r.data),
            hot::BLK_FLUSH => self.disk.flush(),
            hot::BLK_DISCARD => self.disk.discard(r.offset, r.len),
            hot::BLK_WRITE_ZEROES => self.disk.write_zeroes(r.offset, r.len),
            op => unreachable!("accepts() let operation {op} through"),
        };
        match result {
            Ok(()) => {
                self.chain(r);
                Outcome { status: hot::BLK_DONE, data, host_error: None }
            }
            Err(error) => {
                Outcome { status: hot::BLK_ERROR, data: Vec::new(), host_error: Some(error.to_string()) }
            }
        }
    }

    fn accepts(&self, r: &Request) -> bool {
        let aligned = r.offset.is_multiple_of(SECTOR) && r.len.is_multiple_of(SECTOR);
        let inside = r.offset.checked_add(r.len).is_some_and(|end| end <= self.disk.size_bytes());
        let writes = matches!(r.op, hot::BLK_WRITE | hot::BLK_DISCARD | hot::BLK_WRITE_ZEROES);
        let transfers = matches!(r.op, hot::BLK_READ | hot::BLK_WRITE);
        // A request that comes from a snapshot may say anything.
        let whole = r.op != hot::BLK_WRITE || r.data.len() as u64 == r.len;
        aligned
            && inside
            && r.op <= hot::BLK_WRITE_ZEROES
            && !(writes && self.disk.read_only())
            && !(transfers && r.len > MAX_REQUEST)
            && whole
    }

    fn chain(&mut self, r: &Request) {
        if matches!(r.op, hot::BLK_READ | hot::BLK_FLUSH) {
            return;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.written).update(&r.op.to_le_bytes());
        hasher.update(&r.offset.to_le_bytes()).update(&r.len.to_le_bytes()).update(&r.data);
        self.written = *hasher.finalize().as_bytes();
    }
}

impl Outcome {
    fn guest_error() -> Outcome {
        Outcome { status: hot::BLK_ERROR, data: Vec::new(), host_error: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::DiskError;

    /// 8 KiB of memory; its third sector cannot be read.
    struct Memory(Vec<u8>, bool);

    impl Disk for Memory {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_only(&self) -> bool {
            self.1
        }
        fn serial(&self) -> [u8; 20] {
            [b's'; 20]
        }
        fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
            if offset == 2 * SECTOR {
                return Err(DiskError("the host's disk is broken".into()));
            }
            into.copy_from_slice(&self.0[offset as usize..][..into.len()]);
            Ok(())
        }
        fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
            self.0[offset as usize..][..data.len()].copy_from_slice(data);
            Ok(())
        }
        fn flush(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
        fn discard(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
            self.write_zeroes(offset, len)
        }
        fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
            self.0[offset as usize..][..len as usize].fill(0);
            Ok(())
        }
        fn first_reads(&mut self, tell: &mut dyn FnMut(u64, [u8; 32])) {
            tell(7, [b'h'; 32]);
        }
        fn changes(&mut self) -> DiskChanges {
            DiskChanges::default()
        }
        fn set_changes(&mut self, _changes: &DiskChanges) -> Result<(), String> {
            Ok(())
        }
    }

    fn disks(read_only: bool) -> Disks {
        let mut disks = Disks::new(DiskTiming { latency_ns: 100, bytes_per_second: 512_000_000 });
        disks.attach(0, 0, Box::new(Memory(vec![1; 8192], read_only)));
        disks
    }

    fn request(op: u32, offset: u64, len: u64) -> hot::BlkReq {
        hot::BlkReq { op, flags: 0, token: 9, offset, len, data: std::ptr::null() }
    }

    fn status(disks: &mut Disks, req: &hot::BlkReq, data: &[u8]) -> u32 {
        let (id, _) = disks.submit(0, 0, 0, req, data);
        disks.complete(id).1.status
    }

    #[test]
    fn completion_follows_latency_and_bandwidth_and_transfers_queue() {
        let mut disks = disks(false);
        let (_, first) = disks.submit(1000, 0, 0, &request(hot::BLK_READ, 0, 1024), &[]);
        let (_, second) = disks.submit(1000, 0, 0, &request(hot::BLK_READ, 0, 512), &[]);
        let (_, flush) = disks.submit(1000, 0, 0, &request(hot::BLK_FLUSH, 0, 0), &[]);
        assert_eq!((first, second, flush), (1000 + 2000 + 100, 1000 + 3000 + 100, 1000 + 3000 + 100));
    }

    #[test]
    fn a_guest_cannot_leave_the_disk() {
        let mut disks = disks(false);
        for (offset, len) in
            [(8192, 512), (u64::MAX - 511, 512), (7680, 1024), (1, 512), (0, 511), (0, u64::MAX)]
        {
            assert_eq!(
                status(&mut disks, &request(hot::BLK_READ, offset, len), &[]),
                hot::BLK_ERROR,
                "{offset} {len}"
            );
        }
        assert_eq!(status(&mut disks, &request(77, 0, 512), &[]), hot::BLK_ERROR);
        assert_eq!(status(&mut disks, &request(hot::BLK_READ, 7680, 512), &[]), hot::BLK_DONE);
    }

    #[test]
    fn read_only_disks_and_missing_disks_refuse() {
        let mut disks = disks(true);
        for op in [hot::BLK_WRITE, hot::BLK_DISCARD, hot::BLK_WRITE_ZEROES] {
            assert_eq!(status(&mut disks, &request(op, 0, 512), &[0; 512]), hot::BLK_ERROR);
        }
        let (id, _) = disks.submit(0, 5, 0, &request(hot::BLK_READ, 0, 512), &[]);
        assert_eq!(disks.complete(id).1.status, hot::BLK_ERROR);
    }

    #[test]
    fn a_host_error_is_reported_and_what_was_written_is_chained() {
        let mut disks = disks(false);
        let (id, _) = disks.submit(0, 0, 0, &request(hot::BLK_READ, 2 * SECTOR, 512), &[]);
        assert!(disks.complete(id).1.host_error.is_some());
        let chain = |disks: &Disks| disks.attached[&(0, 0)].written;
        let before = chain(&disks);
        status(&mut disks, &request(hot::BLK_READ, 0, 512), &[]);
        assert_eq!(chain(&disks), before);
        status(&mut disks, &request(hot::BLK_WRITE, 0, 512), &[5; 512]);
        assert_ne!(chain(&disks), before);
    }

    #[test]
    fn first_reads_come_from_the_disk_of_the_port() {
        let mut disks = disks(false);
        let told = |disks: &mut Disks, device, port| {
            let mut told = Vec::new();
            disks.first_reads(device, port, &mut |block, hash| told.push((block, hash)));
            told
        };
        assert_eq!(told(&mut disks, 0, 0), [(7, [b'h'; 32])]);
        assert!(told(&mut disks, 0, 1).is_empty());
        assert!(told(&mut disks, 1, 0).is_empty());
    }

    #[test]
    fn a_reset_drops_what_is_in_flight() {
        let mut disks = disks(false);
        let (id, _) = disks.submit(0, 0, 0, &request(hot::BLK_WRITE, 0, 512), &[5; 512]);
        assert!(disks.cancel_device(1).is_empty());
        assert_eq!(disks.cancel_device(0), [id]);
        assert!(disks.in_flight.is_empty());
    }
}
