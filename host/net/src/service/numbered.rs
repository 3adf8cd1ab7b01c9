//! Kinds of messages by their numbers, and back.

/// An enum of a protocol's numbers, with `from_number`, which is `None` for those that it has not.
macro_rules! numbered {
    (
        $(#[$doc:meta])*
        $vis:vis enum $name:ident: $number:ty { $($variant:ident = $value:literal),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($variant = $value),+ }

        impl $name {
            $vis fn from_number(number: $number) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use numbered;
