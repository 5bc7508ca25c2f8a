//! JSON in which every object's members are named once, at every depth: whoever decides by a document must not read
//! another member than whoever looked at it before.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads one JSON object.
///
/// Depth is bounded by `serde_json` (128); the caller bounds the length.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(UniqueJson(Value::Object(members))) => Some(members),
        _ => None,
    }
}

/// A JSON value without duplicate members. Its errors of category `Data` are duplicates; all others are of syntax.
#[derive(Debug)]
pub struct UniqueJson(pub Value);

impl<'de> Deserialize<'de> for UniqueJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, UniqueJson(value))) = access.next_entry::<String, UniqueJson>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(UniqueJson(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"a":1,"b":[true,null,-1,1.5,"x",{"c":{}}]}"#, true)]
    #[case(r#"{"a":1,"a":1}"#, false)]
    #[case(r#"{"x":{"a":1,"a":1}}"#, false)]
    #[case(r#"{"x":[{"a":1,"a":1}]}"#, false)]
    #[case(r#"{"a":1,"\u0061":1}"#, false)]
    #[case("[]", false)]
    #[case("1", false)]
    #[case("{} {}", false)]
    #[case("", false)]
    #[case("\u{feff}{}", false)]
    #[case(r#"{"a":NaN}"#, false)]
    #[case(r#"{"a":1e400}"#, false)]
    #[case(r#"{"a":"\ud800"}"#, false)]
    fn object_is_strict(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(object(text.as_bytes()).is_some(), valid);
    }

    #[test]
    fn object_keeps_what_it_read() {
        let text = r#"{"a":[1,-2,2.5,"x",null,true],"b":{"c":{}}}"#;
        let members = object(text.as_bytes()).unwrap();
        assert_eq!(Value::Object(members), serde_json::from_str::<Value>(text).unwrap());
    }
}
