//! A record taken apart into its outermost fields, as bytes: to leave one out, or put one in.

/// Version and fields: name, and kind, length and content.
pub(super) struct Record<'a> {
    version: &'a [u8],
    fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Record<'a> {
    /// `None`: it is not well-formed.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_at_checked(4)?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let mut fields = Vec::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (len, after) = rest.split_first_chunk()?;
            let (name, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            let len = after.get(1..)?.first_chunk().map(|len| u32::from_le_bytes(*len))?;
            let (value, after) = after.split_at_checked(5 + len as usize)?;
            fields.push((name, value));
            rest = after;
        }
        rest.is_empty().then_some(Self { version, fields })
    }

    /// The names of the fields.
    pub(super) fn names(&self) -> Vec<String> {
        self.fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Without this field.
    pub(super) fn without(&self, name: &str) -> Vec<u8> {
        self.written(self.fields.iter().filter(|(other, _)| *other != name.as_bytes()).copied().collect())
    }

    /// With this field more, a `false`.
    pub(super) fn with(&self, name: &str) -> Vec<u8> {
        const NO: &[u8] = &[3, 1, 0, 0, 0, 0];
        let mut fields = self.fields.clone();
        fields.push((name.as_bytes(), NO));
        self.written(fields)
    }

    fn written(&self, fields: Vec<(&[u8], &[u8])>) -> Vec<u8> {
        let mut out = self.version.to_vec();
        out.extend((fields.len() as u32).to_le_bytes());
        for (name, value) in fields {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name);
            out.extend(value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_abi::state::{Reader, encode};

    #[test]
    fn fields_go_and_come() {
        let bytes = encode(3, |out| {
            out.field("a").uint(7u32.to_le_bytes());
            out.field("b").text("x");
        });
        let record = Record::read(&bytes).unwrap();
        assert_eq!(record.names(), ["a", "b"]);
        let without = record.without("a");
        let without = Reader::parse(&without).unwrap();
        assert_eq!((without.version(), without.only(&["b"])), (3, Ok(())));
        let with = record.with("more");
        assert_eq!(Reader::parse(&with).unwrap().field("more").unwrap().bool(), Ok(false));
        assert!(Record::read(&bytes[..bytes.len() - 1]).is_none());
    }
}
