//! Mappings with free keys. A key that stands twice is refused at its line; serde's own maps would silently
//! keep the last.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::scalars::{Cluster, Scalar};

/// A key of a mapping.
pub trait Key: Ord + Clone + fmt::Display {
    /// What is allowed, after "expected".
    const EXPECTED: &'static str;

    /// Reads the key.
    fn read(text: &str) -> Result<Self, String>;
}

impl Key for String {
    const EXPECTED: &'static str = "a name";

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is empty".into()) } else { Ok(text.to_owned()) }
    }
}

impl Key for Cluster {
    const EXPECTED: &'static str = <Cluster as Scalar>::EXPECTED;

    fn read(text: &str) -> Result<Self, String> {
        <Cluster as Scalar>::read(text)
    }
}

/// A mapping whose keys are free, and unique.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<K: Ord, V>(pub BTreeMap<K, V>);

impl<K: Ord, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, K: Key, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Key, V: Deserialize<'de>> Visitor<'de> for Whole<K, V> {
            type Value = Entries<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Entries::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key_seed(UniqueKey { seen: &entries })? {
                    let value = map.next_value()?;
                    entries.insert(key, value);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Whole(PhantomData))
    }
}

struct UniqueKey<'a, K: Ord, V> {
    seen: &'a BTreeMap<K, V>,
}

impl<'de, K: Key, V> DeserializeSeed<'de> for UniqueKey<'_, K, V> {
    type Value = K;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<K: Key, V> Visitor<'_> for UniqueKey<'_, K, V> {
    type Value = K;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<K, E> {
        let key = K::read(text)
            .map_err(|error| E::custom(format_args!("the key {text:?} {error}, expected {}", K::EXPECTED)))?;
        if self.seen.contains_key(&key) {
            return Err(E::custom(format_args!("duplicate key {text:?}: every key may stand once")));
        }
        Ok(key)
    }
}

impl<K: Key, V: Serialize> Serialize for Entries<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key.to_string(), value)))
    }
}

impl<K: Key, V: schemars::JsonSchema> schemars::JsonSchema for Entries<K, V> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Entries_of_{}", V::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let value = generator.subschema_for::<V>();
        schemars::json_schema!({ "type": ["object", "null"], "additionalProperties": value })
    }
}

/// Any YAML in which no mapping holds a key twice. Read before the real thing: serde finds a key of a struct
/// that stands twice, but tells the line of the mapping and not of the key.
pub struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = UniqueKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UniqueKeys, A::Error> {
                let entries = serde::de::value::MapAccessDeserializer::new(map);
                Entries::<String, UniqueKeys>::deserialize(entries).map(|_| UniqueKeys)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<UniqueKeys, A::Error> {
                while items.next_element::<UniqueKeys>()?.is_some() {}
                Ok(UniqueKeys)
            }

            fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
                Ok(UniqueKeys)
            }

            fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
                Ok(UniqueKeys)
            }

            fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
                Ok(UniqueKeys)
            }

            fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
                Ok(UniqueKeys)
            }

            fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
                Ok(UniqueKeys)
            }

            fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
                Ok(UniqueKeys)
            }
        }

        deserializer.deserialize_any(Any)
    }
}
