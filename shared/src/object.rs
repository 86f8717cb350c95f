//! How a struct is read from a JSON object: one piece of code finds the fields of all of them.
//!
//! serde's derive makes a visitor for each struct, and with some fifty structs on the wire those were a tenth of what
//! a page downloads before it can begin (docs/decisions/the-weight-of-the-page.md).
//!
//! Lives here: finding fields. Must not live here: which struct has which. Invariant: as with serde's derive, a field that
//! is unknown is skipped whatever it holds, one that comes twice or is missing is an error; unlike there, an object is
//! never read from an array, and only from text (`serde_json::from_str` or `from_slice`): not from a `Value`, from a
//! reader, or inside an untagged or flattened enum, which keep no text.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Finds the values of these fields, as they stand in the text.
///
/// # Errors
/// If it is no object, or one of the fields comes twice.
pub fn fields<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
    names: [&'static str; N],
) -> Result<[Option<&'de RawValue>; N], D::Error> {
    let mut found = [None; N];
    deserializer.deserialize_map(Finder { names: &names, found: &mut found })?;
    Ok(found)
}

/// Reads one of the values, which must have been found.
///
/// # Errors
/// If it is missing, or is not what is wanted.
pub fn field<'de, T: Deserialize<'de>, E: Error>(value: Option<&'de RawValue>, name: &'static str) -> Result<T, E> {
    let value = value.ok_or_else(|| E::missing_field(name))?;
    serde_json::from_str(value.get()).map_err(E::custom)
}

/// Reads one of the values that were found; one that was not is the default.
///
/// # Errors
/// If it is not what is wanted.
pub fn field_or_default<'de, T: Deserialize<'de> + Default, E: Error>(value: Option<&'de RawValue>) -> Result<T, E> {
    value.map_or_else(|| Ok(T::default()), |value| serde_json::from_str(value.get()).map_err(E::custom))
}

struct Finder<'a, 'de> {
    names: &'a [&'static str],
    found: &'a mut [Option<&'de RawValue>],
}

impl<'de> Visitor<'de> for Finder<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name(self.names))? {
            let Some(at) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.found[at].replace(map.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(self.names[at]));
            }
        }
        Ok(())
    }
}

/// Which of the names a key is.
struct Name<'a>(&'a [&'static str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// Says how a struct is read from a JSON object: the names of all its fields, with `= default` where one may be missing.
macro_rules! object {
    ($struct:ident $(<$life:lifetime>)? { $($field:ident $(= $default:ident)?),* }) => {
        impl<'de $(: $life, $life)?> serde::Deserialize<'de> for $struct $(<$life>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let [$($field),*] = $crate::object::fields(deserializer, [$(stringify!($field)),*])?;
                Ok(Self { $($field: $crate::object::object!(@read $field $($default)?)?),* })
            }
        }
    };
    (@read $field:ident) => { $crate::object::field($field, stringify!($field)) };
    (@read $field:ident default) => { $crate::object::field_or_default($field) };
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    #[derive(Debug, PartialEq)]
    struct Chair {
        legs: u8,
        owner: Option<String>,
        wheels: bool,
    }

    object!(Chair { legs, owner = default, wheels = default });

    fn read(text: &str) -> Result<Chair, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_found_in_any_order_and_what_is_unknown_is_skipped() {
        let chair = Chair { legs: 4, owner: Some("Ada".into()), wheels: true };
        assert_eq!(read(r#"{"wheels":true,"cushion":{"legs":[1e400]},"owner":"A\u0064a","le\u0067s":4}"#), Ok(chair));
        let plain = Chair { legs: 3, owner: None, wheels: false };
        assert_eq!(read(r#"{"legs":3}"#), Ok(plain));
        assert!(read(r#" { "legs" : 3 , "owner" : null } "#).is_ok());
    }

    #[test]
    fn what_is_missing_doubled_malformed_or_no_object_is_refused_by_name() {
        for (text, why) in [
            ("{}", "missing field `legs`"),
            (r#"{"legs":3,"legs":3}"#, "duplicate field `legs`"),
            (r#"{"legs":null}"#, "invalid type: null, expected u8"),
            (r#"{"legs":300}"#, "invalid value: integer `300`, expected u8"),
            (r#"{"legs":3,"wheels":null}"#, "invalid type: null, expected a boolean"),
            (r#"[3,null,true]"#, "invalid type: sequence, expected an object"),
            ("7", "invalid type: integer `7`, expected an object"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
        assert!(read(r#"{"legs":3,"#).is_err());
        assert!(read(r#"{"legs":3"#).is_err());
    }
}
