//! Frames written down as pcapng (draft-ietf-opsawg-pcapng), for Wireshark and tcpdump: the guest's side, and the
//! host's.
//!
//! Times are those of the EXTERNAL clock, in nanoseconds from the machine's beginning, not of any wall clock. So the
//! same packet has the same time wherever it is looked at, and times between packets are those that the guest saw.

pub(crate) mod packets;

use std::io::{self, Write};

/// Block types: §4.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Tells the reader the order of bytes, which is the host's there; ours is always little-endian.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Link types: IANA's registry. Ethernet, and packets that begin with their IP header.
const LINK_ETHERNET: u16 = 1;
const LINK_RAW: u16 = 101;

/// Options: §3.5, §4.1 to 4.3.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    /// Of a section: who wrote it.
    pub(super) const APPLICATION: u16 = 4;
    /// Of an interface.
    pub(super) const NAME: u16 = 2;
    pub(super) const DESCRIPTION: u16 = 3;
    pub(super) const RESOLUTION: u16 = 9;
    /// Of a packet.
    pub(super) const FLAGS: u16 = 2;
}

/// `if_tsresol`: powers of ten, 10^-9 s.
const NANOSECONDS: u8 = 9;

/// A comment is a line or two.
const COMMENT_MOST: usize = 1024;

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Between guest and network: Ethernet frames.
    Guest,
    /// Between network and host: IP packets that stand for what passed through sockets.
    Host,
}

/// Which way it went, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Towards the guest.
    In,
    /// From the guest.
    Out,
}

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Nanoseconds of the EXTERNAL clock.
    pub at_ns: u64,
    /// Where it was seen.
    pub side: Side,
    /// Which way it went.
    pub way: Way,
    /// It, or its beginning.
    pub bytes: &'a [u8],
    /// How long it was; at least the length of `bytes`.
    pub length: usize,
    /// What is to be said of it: which flow it is of, why it was dropped. May be empty.
    pub comment: &'a str,
}

/// Writes a capture. Each block is one call of `write_all`, so that a reader never sees half of one from a writer that
/// is not buffered. One that is buffered writes whole blocks too, but later: a file that was cut short by a crash has
/// what was flushed, and perhaps more.
#[derive(Debug)]
pub struct Capture<W> {
    out: W,
    /// The numbers of the interfaces, in the order of their blocks.
    guest: Option<u32>,
    host: Option<u32>,
    snap_length: u32,
    block: Vec<u8>,
}

impl<W: Write> Capture<W> {
    /// Begins a capture of these sides. `name` is the network's, `user0`.
    ///
    /// # Errors
    /// As `out` has them.
    pub fn new(out: W, name: &str, guest: bool, host: bool, snap_length: u32) -> io::Result<Self> {
        let numbers = (guest.then_some(0), host.then_some(u32::from(guest)));
        let mut capture = Self { out, guest: numbers.0, host: numbers.1, snap_length, block: Vec::new() };
        capture.section()?;
        if guest {
            capture.interface(LINK_ETHERNET, name, "guest side: Ethernet frames as the guest sees them")?;
        }
        if host {
            let name = format!("{name}-host");
            capture.interface(LINK_RAW, &name, "host side: packets that stand for the traffic of sockets")?;
        }
        Ok(capture)
    }

    /// Writes a frame, if its side is captured.
    ///
    /// # Errors
    /// As `out` has them; what was written before is whole.
    pub fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let interface = match frame.side {
            Side::Guest => self.guest,
            Side::Host => self.host,
        };
        let Some(interface) = interface else { return Ok(()) };
        let kept = &frame.bytes[..frame.bytes.len().min(self.snap_length as usize)];
        self.begin(ENHANCED_PACKET);
        let lengths = [kept.len(), frame.length.max(frame.bytes.len())].map(|length| length as u32);
        let time = [(frame.at_ns >> 32) as u32, frame.at_ns as u32];
        for word in [interface, time[0], time[1], lengths[0], lengths[1]] {
            self.block.extend_from_slice(&word.to_le_bytes());
        }
        self.padded(kept);
        // §4.3.1: inbound is what the interface received. The guest's interface receives what goes to the guest.
        let flags: u32 = match frame.way {
            Way::In => 1,
            Way::Out => 2,
        };
        self.option(option::FLAGS, &flags.to_le_bytes());
        if !frame.comment.is_empty() {
            let end = frame.comment.floor_char_boundary(COMMENT_MOST.min(frame.comment.len()));
            self.option(option::COMMENT, &frame.comment.as_bytes()[..end]);
        }
        self.option(option::END, &[]);
        self.end()
    }

    /// Hands what `out` holds to whoever reads it.
    ///
    /// # Errors
    /// As `out` has them.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn section(&mut self) -> io::Result<()> {
        self.begin(SECTION_HEADER);
        self.block.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        // Version 1.0, and a section whose length nobody knows yet.
        self.block.extend_from_slice(&1_u16.to_le_bytes());
        self.block.extend_from_slice(&0_u16.to_le_bytes());
        self.block.extend_from_slice(&(-1_i64).to_le_bytes());
        self.option(option::APPLICATION, b"reprise");
        self.option(option::COMMENT, b"times are nanoseconds of the machine's virtual time");
        self.option(option::END, &[]);
        self.end()
    }

    fn interface(&mut self, link: u16, name: &str, description: &str) -> io::Result<()> {
        self.begin(INTERFACE);
        self.block.extend_from_slice(&link.to_le_bytes());
        self.block.extend_from_slice(&[0; 2]);
        self.block.extend_from_slice(&self.snap_length.to_le_bytes());
        self.option(option::NAME, name.as_bytes());
        self.option(option::DESCRIPTION, description.as_bytes());
        self.option(option::RESOLUTION, &[NANOSECONDS]);
        self.option(option::END, &[]);
        self.end()
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.block.extend_from_slice(&kind.to_le_bytes());
        // Its length, which `end` knows.
        self.block.extend_from_slice(&[0; 4]);
    }

    /// The length of a block stands at both its ends (§3.1).
    fn end(&mut self) -> io::Result<()> {
        let length = (self.block.len() + 4) as u32;
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.block.extend_from_slice(&length.to_le_bytes());
        self.out.write_all(&self.block)
    }

    /// Values here are all shorter than 64 KiB.
    fn option(&mut self, code: u16, value: &[u8]) {
        self.block.extend_from_slice(&code.to_le_bytes());
        self.block.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.padded(value);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::{
        DataLink,
        pcapng::{
            Block, PcapNgReader,
            blocks::{
                enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
                interface_description::InterfaceDescriptionOption,
            },
        },
    };

    fn frame<'a>(at_ns: u64, side: Side, way: Way, bytes: &'a [u8], comment: &'a str) -> Frame<'a> {
        Frame { at_ns, side, way, bytes, length: bytes.len(), comment }
    }

    /// Reads all packets with an independent reader.
    fn packets(file: &[u8]) -> (Vec<(DataLink, String)>, Vec<EnhancedPacketBlock<'static>>) {
        let mut reader = PcapNgReader::new(file).unwrap();
        let mut found = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap().into_owned() {
                Block::EnhancedPacket(packet) => found.push(packet),
                Block::InterfaceDescription(interface) => {
                    let resolution = InterfaceDescriptionOption::IfTsResol(9);
                    assert!(interface.options.contains(&resolution));
                }
                other => panic!("{other:?}"),
            }
        }
        let name = |options: &[InterfaceDescriptionOption<'_>]| {
            options.iter().find_map(|option| match option {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            })
        };
        let interfaces = reader.interfaces().iter();
        (interfaces.map(|one| (one.linktype, name(&one.options).unwrap())).collect(), found)
    }

    #[test]
    fn somebody_else_reads_what_was_written() {
        let mut file = Vec::new();
        let mut capture = Capture::new(&mut file, "user0", true, true, 1 << 18).unwrap();
        let long: Vec<u8> = (0..65_549_u32).map(|at| at as u8).collect();
        let day_ns = 86_400_000_000_000;
        let frames = [
            frame(0, Side::Guest, Way::Out, &[1, 2, 3], "tcp 10.0.2.15:1000 > 1.1.1.1:80"),
            frame(1, Side::Host, Way::Out, &[4, 5, 6, 7], ""),
            frame(day_ns + 7, Side::Guest, Way::In, &long, "dropped: no room ☂"),
            frame(day_ns + 7, Side::Host, Way::In, &[], ""),
        ];
        frames.iter().for_each(|frame| capture.frame(frame).unwrap());
        capture.flush().unwrap();
        let (interfaces, found) = packets(&file);
        let names = [(DataLink::ETHERNET, "user0".to_owned()), (DataLink::RAW, "user0-host".to_owned())];
        assert_eq!(interfaces, names);
        assert_eq!(found.len(), frames.len());
        for (got, wanted) in found.iter().zip(&frames) {
            assert_eq!(got.interface_id, u32::from(wanted.side == Side::Host));
            // This reader takes the words of a time to be nanoseconds.
            assert_eq!(got.timestamp.as_nanos(), u128::from(wanted.at_ns));
            assert_eq!((&*got.data, got.original_len as usize), (wanted.bytes, wanted.length));
            let flags = if wanted.way == Way::In { 1 } else { 2 };
            assert!(got.options.contains(&EnhancedPacketOption::Flags(flags)));
            let comment = got.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                _ => None,
            });
            assert_eq!(comment.unwrap_or_default(), wanted.comment);
        }
    }

    #[test]
    fn only_the_sides_that_were_asked_for() {
        for (guest, host, kept) in [(true, false, vec![1]), (false, true, vec![2]), (true, true, vec![1, 2])]
        {
            let mut file = Vec::new();
            let mut capture = Capture::new(&mut file, "n", guest, host, 64).unwrap();
            capture.frame(&frame(0, Side::Guest, Way::In, &[1], "")).unwrap();
            capture.frame(&frame(0, Side::Host, Way::In, &[2], "")).unwrap();
            let (interfaces, found) = packets(&file);
            assert_eq!(found.iter().map(|packet| packet.data[0]).collect::<Vec<_>>(), kept);
            assert_eq!(interfaces.len(), kept.len());
        }
    }

    #[test]
    fn frames_are_cut_and_say_how_long_they_were() {
        let mut file = Vec::new();
        let mut capture = Capture::new(&mut file, "n", true, false, 64).unwrap();
        let mut long = frame(0, Side::Guest, Way::In, &[9; 100], "");
        long.length = 1514;
        capture.frame(&long).unwrap();
        let (_, found) = packets(&file);
        assert_eq!((found[0].data.len(), found[0].original_len), (64, 1514));
    }

    #[test]
    fn comments_end_between_characters() {
        let mut file = Vec::new();
        let mut capture = Capture::new(&mut file, "n", true, false, 64).unwrap();
        let long = "☂".repeat(1000);
        capture.frame(&frame(0, Side::Guest, Way::In, &[1], &long)).unwrap();
        let (_, found) = packets(&file);
        let EnhancedPacketOption::Comment(text) = &found[0].options[1] else { panic!() };
        assert_eq!(text.chars().count(), COMMENT_MOST / 3);
    }

    /// What a crash leaves is whole up to its last block.
    #[test]
    fn a_writer_sees_whole_blocks() {
        struct Blocks(Vec<usize>);
        impl Write for Blocks {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
                assert_eq!(bytes.len(), length);
                assert_eq!(bytes[length - 4..], bytes[4..8]);
                assert_eq!(length % 4, 0);
                self.0.push(length);
                Ok(length)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut blocks = Blocks(Vec::new());
        let mut capture = Capture::new(&mut blocks, "user0", true, true, 1 << 18).unwrap();
        for length in 0..70 {
            capture.frame(&frame(0, Side::Guest, Way::In, &vec![0; length], &"x".repeat(length))).unwrap();
        }
        assert_eq!(blocks.0.len(), 3 + 70);
    }
}
