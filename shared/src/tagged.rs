//! The one macro behind every tagged form on the wire: a tag beside a payload, and a case for what is not known yet.
//!
//! Lives here: reading and writing `(tag, payload)`. Must not live here: what the envelope calls the two. Invariant: an
//! unknown tag is kept whole as `Unknown`; a known tag with a malformed payload is an error, never `Unknown`.

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// A tag this version does not know, with its payload as it came.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// The tag.
    pub kind: String,
    /// The payload's JSON text; `null` where none came.
    pub raw: String,
}

impl PartialEq for Unknown {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.raw == other.raw
    }
}

/// Reads a payload, treating an absent one as an empty object.
///
/// # Errors
/// What serde says of the payload.
pub fn read_payload<'a, T: Deserialize<'a>>(payload: Option<&'a RawValue>) -> Result<T, serde_json::Error> {
    let text = payload.map_or("{}", RawValue::get);
    if !is_object(text) {
        return Err(serde::de::Error::custom("a payload must be a JSON object"));
    }
    serde_json::from_str(text)
}

/// Tells whether a JSON text is an object, if it is JSON at all.
#[must_use]
pub fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
}

/// A tagged form, as its payload alone is written.
pub trait Tagged {
    /// Writes the payload.
    ///
    /// # Errors
    /// If an `Unknown` was made by hand around text that is not JSON.
    fn write_payload<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// The payload of a tagged form, to be written into whatever stands around it.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a, T>(pub &'a T);

impl<T: Tagged> Serialize for Payload<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write_payload(serializer)
    }
}

impl Unknown {
    /// Writes the payload as it came.
    ///
    /// # Errors
    /// If it was made by hand around text that is not JSON.
    pub fn write_payload<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.raw.clone()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// Declares an enum whose cases travel as a tag and a payload struct.
macro_rules! tagged {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$case_doc:meta])* $case:ident($payload:ty) = $tag:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $($(#[$case_doc])* $case($payload),)*
            /// Something a newer peer says.
            Unknown($crate::tagged::Unknown),
        }

        impl $name {
            /// Every tag this version knows.
            pub const TAGS: &'static [&'static str] = &[$($tag,)*];

            /// Returns the tag as it is written on the wire.
            #[must_use]
            pub fn tag(&self) -> &str {
                match self { $(Self::$case(_) => $tag,)* Self::Unknown(unknown) => &unknown.kind }
            }

            /// Reads the payload that belongs to a tag.
            ///
            /// # Errors
            /// If the tag is known and its payload is malformed.
            pub fn read(tag: &str, payload: Option<&serde_json::value::RawValue>) -> Result<Self, serde_json::Error> {
                match tag {
                    $($tag => $crate::tagged::read_payload(payload).map(Self::$case),)*
                    other => Ok(Self::Unknown($crate::tagged::Unknown {
                        kind: other.to_owned(),
                        raw: payload.map_or("null", serde_json::value::RawValue::get).to_owned(),
                    })),
                }
            }

        }

        impl $crate::tagged::Tagged for $name {
            fn write_payload<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$case(payload) => serde::Serialize::serialize(payload, serializer),)*
                    Self::Unknown(unknown) => unknown.write_payload(serializer),
                }
            }
        }
    };
}
pub(crate) use tagged;
