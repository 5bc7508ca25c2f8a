//! Reading the members of a JSON object one by one. What is wrong is reported by its place, never by its value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::ApiError;

/// A JSON object and its place in the body. `null` is the same as absent: Azure's clients send both.
#[derive(Clone, Copy)]
pub(super) struct Members<'a> {
    place: &'a str,
    members: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    /// The members of a whole body.
    pub(super) fn of_body(body: &'a Value) -> Result<Self, ApiError> {
        let members = body.as_object().ok_or_else(|| ApiError::invalid("body", "must be an object"))?;
        Ok(Self { place: "", members })
    }

    /// The members of a member; `place` is its name.
    pub(super) fn object(&self, name: &'a str) -> Result<Option<Self>, ApiError> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self { place: name, members })),
            Some(_) => Err(ApiError::invalid(self.place_of(name), "must be an object")),
        }
    }

    /// A member that is there and not null.
    pub(super) fn present(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(name, text)
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&'a str, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::invalid(self.place_of(name), "is missing"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, flag)
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        self.read(name, texts)
    }

    pub(super) fn text_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        self.read(name, text_map)
    }

    /// An object whose members have names of the client's choice.
    pub(super) fn map(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.read(name, |place, value| {
            value.as_object().ok_or_else(|| ApiError::invalid(place, "must be an object"))
        })
    }

    /// How errors name a member.
    pub(super) fn place_of(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str, &'a Value) -> Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        self.present(name).map(|value| read(&self.place_of(name), value)).transpose()
    }
}

pub(super) fn text<'a>(place: &str, value: &'a Value) -> Result<&'a str, ApiError> {
    value.as_str().ok_or_else(|| ApiError::invalid(place, "must be a text"))
}

pub(super) fn flag(place: &str, value: &Value) -> Result<bool, ApiError> {
    value.as_bool().ok_or_else(|| ApiError::invalid(place, "must be `true` or `false`"))
}

pub(super) fn texts(place: &str, value: &Value) -> Result<Vec<String>, ApiError> {
    let items = value.as_array().ok_or_else(|| ApiError::invalid(place, "must be a list of texts"))?;
    items.iter().map(|item| text(place, item).map(str::to_owned)).collect()
}

/// Tags and properties. Users of Azure's clients write numbers and booleans there too, and Azure keeps their text.
pub(super) fn text_map(place: &str, value: &Value) -> Result<BTreeMap<String, String>, ApiError> {
    let members = value.as_object().ok_or_else(|| ApiError::invalid(place, "must be an object of texts"))?;
    let entry = |(name, value): (&String, &Value)| match label(place, value) {
        Ok(label) => label.map(|label| Ok((name.clone(), label))),
        Err(error) => Some(Err(error)),
    };
    members.iter().filter_map(entry).collect()
}

/// The value of a tag or property; null says nothing.
pub(super) fn label(place: &str, value: &Value) -> Result<Option<String>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err(ApiError::invalid(place, "must have texts as its values")),
    }
}
