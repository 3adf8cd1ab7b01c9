//! DNS over TCP: two bytes of length before each message. RFC 1035 §4.2.2.

/// The message as it goes into a stream; `None` if it is longer than its length can say.
#[must_use]
pub fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([length.to_be_bytes().as_slice(), message].concat())
}

/// Cuts what comes out of a stream into messages. Never holds more than one message that is not whole.
#[derive(Debug, Default)]
pub struct Deframer {
    pending: Vec<u8>,
}

impl Deframer {
    /// Takes what has arrived and returns the messages that are whole now. At most 64 KiB stay behind.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        while !bytes.is_empty() {
            let wanted = self.wanted() - self.pending.len();
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() >= 2 && self.pending.len() == self.wanted() {
                whole.push(self.pending.split_off(2));
                self.pending.clear();
            }
        }
        whole
    }

    /// How long the message will be with its length, as far as that is known.
    fn wanted(&self) -> usize {
        match self.pending.first_chunk() {
            Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
            None => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let messages: Vec<Vec<u8>> = [1, 0, 700, 65_535, 3].map(|length| vec![length as u8; length]).to_vec();
        let stream: Vec<u8> = messages.iter().flat_map(|message| framed(message).unwrap()).collect();
        for step in [1, 2, 3, 5, 1000, stream.len()] {
            let mut deframer = Deframer::default();
            let got: Vec<_> = stream.chunks(step).flat_map(|chunk| deframer.push(chunk)).collect();
            assert!(got == messages, "in steps of {step}");
            assert!(deframer.pending.is_empty());
        }
    }

    #[test]
    fn too_long_is_refused() {
        assert!(framed(&[0; 65_535]).is_some());
        assert_eq!(framed(&[0; 65_536]), None);
    }
}
