//! What a device remembers, as a record of named fields.

use std::collections::{BTreeMap, VecDeque};

pub use reprise_abi::{
    schema::{MAX_TYPE_DEPTH, StateField as FieldSchema, StateSchema, StateType},
    state::{Difference, Kind, Problem, Reader, StateError, Value, ValueWriter, Writer, diff},
};

/// A device (or a part of one) whose fields are saved by name. Derive it:
///
/// ```
/// # use reprise_plugin_api::DeviceState;
/// # use std::collections::VecDeque;
/// #[derive(DeviceState)]
/// #[state(version = 2)]
/// struct Uart {
///     #[state(config)] // set by `create`, not saved
///     clock_hz: u32,
///     #[state(skip, rebuild = "Self::count_ready")] // derived from saved fields after loading
///     ready: u32,
///     ier: u8,
///     fifo: VecDeque<u8>,
///     #[state(since = 2, default = "7")] // absent from records of version 1
///     trigger: u8,
/// }
///
/// impl Uart {
///     fn count_ready(&mut self) {
///         self.ready = self.fifo.len() as u32;
///     }
/// }
/// ```
///
/// Every field without an attribute is saved, and its type must know how:
///
/// ```compile_fail,E0277
/// # use reprise_plugin_api::DeviceState;
/// #[derive(DeviceState)]
/// struct Timer {
///     started: std::time::Instant,
/// }
/// ```
///
/// Leaving one out needs the function that rebuilds it:
///
/// ```compile_fail
/// # use reprise_plugin_api::DeviceState;
/// #[derive(DeviceState)]
/// struct Uart {
///     #[state(skip)]
///     ready: u32,
/// }
/// ```
///
/// It can be derived for structs with named fields, and for enums without data (saved by the variant's name). A part
/// inside another part is written with the version of the outermost one, to which its `since` refers.
pub trait DeviceState {
    /// Version of the record. Raise it when a field is added with `since`.
    const VERSION: u32;

    /// What is in a record, for `reprise plugin describe` and `state-diff`. The derive knows; by hand it need not be
    /// said.
    #[must_use]
    fn schema() -> Option<StateSchema> {
        None
    }

    /// Write every saved field.
    fn save(&self, out: &mut Writer<'_>);

    /// Replace every saved field, and rebuild the others.
    ///
    /// # Errors
    /// A field is missing, unknown, of another kind, or out of range. The device is then half loaded: throw it away.
    fn load(&mut self, record: &Reader<'_>) -> Result<(), StateError>;
}

/// How to get and set a value that is one byte.
#[doc(hidden)]
pub type AsByte<T> = (fn(&T) -> u8, fn(&mut T, u8));

/// A type that may be a saved field. Loading replaces in place, so that parts keep their configuration.
pub trait StateField {
    /// How a sequence of these packs each into one byte, if it does.
    #[doc(hidden)]
    const AS_BYTE: Option<AsByte<Self>> = None;

    /// What a record has of it, described no deeper than `room`.
    #[must_use]
    fn state_type(room: u8) -> StateType;

    /// Write the value.
    fn put(&self, out: ValueWriter<'_>);

    /// Replace the value.
    ///
    /// # Errors
    /// `value` is not what [`StateField::put`] writes.
    fn take(&mut self, value: Value<'_>) -> Result<(), StateError>;
}

macro_rules! integers {
    ($($int:ty, $method:ident, $wide:ty;)*) => { $(
        impl StateField for $int {
            fn state_type(_: u8) -> StateType {
                StateType::integer(stringify!($method), Self::BITS)
            }

            fn put(&self, out: ValueWriter<'_>) {
                out.$method(self.to_le_bytes());
            }

            fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
                let wide: $wide = value.$method()?;
                *self = Self::try_from(wide).map_err(|_| Problem::OutOfRange(i128::from(wide)))?;
                Ok(())
            }
        }
    )* };
}

integers! {
    u16, uint, u64;
    u32, uint, u64;
    u64, uint, u64;
    i8, int, i64;
    i16, int, i64;
    i32, int, i64;
    i64, int, i64;
}

impl StateField for u8 {
    const AS_BYTE: Option<AsByte<Self>> = Some((|byte| *byte, |byte, new| *byte = new));

    fn state_type(_: u8) -> StateType {
        StateType::integer("uint", 8)
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.uint([*self]);
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        let wide = value.uint()?;
        *self = Self::try_from(wide).map_err(|_| Problem::OutOfRange(i128::from(wide)))?;
        Ok(())
    }
}

/// Saved as 64 bits, so that hosts of all widths understand each other.
impl StateField for usize {
    fn state_type(_: u8) -> StateType {
        StateType::integer("uint", Self::BITS)
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.uint((*self as u64).to_le_bytes());
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        let wide = value.uint()?;
        *self = Self::try_from(wide).map_err(|_| Problem::OutOfRange(i128::from(wide)))?;
        Ok(())
    }
}

impl StateField for bool {
    fn state_type(_: u8) -> StateType {
        StateType::plain("bool")
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.bool(*self);
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        *self = value.bool()?;
        Ok(())
    }
}

impl StateField for String {
    fn state_type(_: u8) -> StateType {
        StateType::plain("text")
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.text(self);
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        value.text()?.clone_into(self);
        Ok(())
    }
}

fn put_all<'a, T: StateField + 'a>(items: impl Iterator<Item = &'a T>, out: ValueWriter<'_>) {
    match T::AS_BYTE {
        Some((get, _)) => out.bytes(items.map(get)),
        None => out.seq(|seq| items.for_each(|item| item.put(seq.item()))),
    }
}

fn type_of_all<T: StateField>(room: u8) -> StateType {
    match T::AS_BYTE {
        Some(_) => StateType::plain("bytes"),
        None => StateType::seq(room, |room| vec![T::state_type(room)]),
    }
}

/// The elements of a sequence, whichever way they are packed.
enum Elements<'a, T> {
    Bytes(&'a [u8], fn(&mut T, u8)),
    Values(Vec<Value<'a>>),
}

impl<'a, T: StateField> Elements<'a, T> {
    fn of(value: Value<'a>) -> Result<Self, StateError> {
        match T::AS_BYTE {
            Some((_, set)) => value.bytes().map(|bytes| Self::Bytes(bytes, set)),
            None => value.seq().map(Self::Values),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes, _) => bytes.len(),
            Self::Values(values) => values.len(),
        }
    }

    fn take_into<'t>(&self, targets: impl Iterator<Item = &'t mut T>) -> Result<(), StateError>
    where
        T: 't,
    {
        match self {
            Self::Bytes(bytes, set) => {
                targets.zip(*bytes).for_each(|(target, byte)| set(target, *byte));
                Ok(())
            }
            Self::Values(values) => {
                targets.zip(values).enumerate().try_for_each(|(index, (target, value))| {
                    target.take(*value).map_err(|error| error.in_element(index))
                })
            }
        }
    }
}

impl<T: StateField, const N: usize> StateField for [T; N] {
    fn state_type(room: u8) -> StateType {
        type_of_all::<T>(room).of_len(N as u64)
    }

    fn put(&self, out: ValueWriter<'_>) {
        put_all(self.iter(), out);
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        let elements = Elements::of(value)?;
        if elements.len() != N {
            return Err(Problem::Length { expected: N, found: elements.len() }.into());
        }
        elements.take_into(self.iter_mut())
    }
}

// Elements that were there keep what is not saved of them (their configuration); new ones start from their default.
macro_rules! growing {
    ($($list:ident)*) => { $(
        impl<T: StateField + Default> StateField for $list<T> {
            fn state_type(room: u8) -> StateType {
                type_of_all::<T>(room)
            }

            fn put(&self, out: ValueWriter<'_>) {
                put_all(self.iter(), out);
            }

            fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
                let elements = Elements::of(value)?;
                self.resize_with(elements.len(), T::default);
                elements.take_into(self.iter_mut())
            }
        }
    )* };
}

growing! { Vec VecDeque }

/// A boxed slice has the length that `create` gave it, like an array.
impl<T: StateField> StateField for Box<[T]> {
    fn state_type(room: u8) -> StateType {
        type_of_all::<T>(room)
    }

    fn put(&self, out: ValueWriter<'_>) {
        put_all(self.iter(), out);
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        let elements = Elements::of(value)?;
        if elements.len() != self.len() {
            return Err(Problem::Length { expected: self.len(), found: elements.len() }.into());
        }
        elements.take_into(self.iter_mut())
    }
}

/// A sequence of no element or one.
impl<T: StateField + Default> StateField for Option<T> {
    fn state_type(room: u8) -> StateType {
        StateType::seq(room, |room| vec![T::state_type(room)]).up_to(1)
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.seq(|seq| self.iter().for_each(|inner| inner.put(seq.item())));
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        match value.seq()?.as_slice() {
            [] => *self = None,
            [inner] => self.get_or_insert_default().take(*inner)?,
            more => return Err(Problem::Length { expected: 1, found: more.len() }.into()),
        }
        Ok(())
    }
}

/// A sequence of pairs, ordered by key.
impl<K: StateField + Default + Ord, V: StateField + Default> StateField for BTreeMap<K, V> {
    fn state_type(room: u8) -> StateType {
        StateType::seq(room, |room| vec![<(K, V)>::state_type(room)])
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.seq(|seq| {
            for (key, value) in self {
                seq.item().seq(|pair| {
                    key.put(pair.item());
                    value.put(pair.item());
                });
            }
        });
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        let mut new = Self::new();
        for (index, pair) in value.seq()?.into_iter().enumerate() {
            let (key, value) = take_pair::<K, V>(pair).map_err(|error| error.in_element(index))?;
            if new.insert(key, value).is_some() {
                return Err(StateError::from(Problem::Duplicate).in_element(index));
            }
        }
        *self = new;
        Ok(())
    }
}

fn take_pair<A: StateField + Default, B: StateField + Default>(
    value: Value<'_>,
) -> Result<(A, B), StateError> {
    let mut out = (A::default(), B::default());
    out.take(value)?;
    Ok(out)
}

/// A sequence of two.
impl<A: StateField, B: StateField> StateField for (A, B) {
    fn state_type(room: u8) -> StateType {
        StateType::seq(room, |room| vec![A::state_type(room), B::state_type(room)]).of_len(2)
    }

    fn put(&self, out: ValueWriter<'_>) {
        out.seq(|seq| {
            self.0.put(seq.item());
            self.1.put(seq.item());
        });
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), StateError> {
        let items = value.seq()?;
        let &[first, second] = items.as_slice() else {
            return Err(Problem::Length { expected: 2, found: items.len() }.into());
        };
        self.0.take(first).map_err(|error| error.in_element(0))?;
        self.1.take(second).map_err(|error| error.in_element(1))
    }
}

/// The record of a device.
#[must_use]
pub fn save<D: DeviceState>(device: &D) -> Vec<u8> {
    reprise_abi::state::encode(D::VERSION, |out| device.save(out))
}

/// Replace a device's state by a record.
///
/// # Errors
/// As [`DeviceState::load`], or the record is malformed or of a newer version.
pub fn load<D: DeviceState>(device: &mut D, record: &[u8]) -> Result<(), StateError> {
    let record = Reader::parse(record)?;
    record.at_most(D::VERSION)?;
    device.load(&record)
}

#[cfg(test)]
mod tests;
