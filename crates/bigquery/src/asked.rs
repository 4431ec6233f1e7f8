//! What the JSON of a job or a query says, as far as it matters here.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;
use std::marker::PhantomData;

use crate::touches::{Property, Reached, TableName};

/// What a JSON body says that matters here. One struct serves both doors of a query.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Asked {
    pub(crate) query: Option<String>,
    pub(crate) query_parameters: Option<Value>,
    pub(crate) labels: Option<Value>,
    pub(crate) dry_run: Option<Value>,
    pub(crate) location: Option<String>,
    pub(crate) maximum_bytes_billed: Option<Value>,
    pub(crate) request_id: Option<Value>,
    pub(crate) use_legacy_sql: Option<Value>,
    pub(crate) default_dataset: Option<Value>,
    #[serde(deserialize_with = "object")]
    pub(crate) job_reference: Option<AskedReference>,
    #[serde(deserialize_with = "object")]
    pub(crate) configuration: Option<AskedConfiguration>,
    pub(crate) connection_properties: Option<Vec<Property>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AskedReference {
    pub(crate) project_id: Option<String>,
    pub(crate) job_id: Option<String>,
    pub(crate) location: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AskedConfiguration {
    pub(crate) dry_run: Option<Value>,
    pub(crate) labels: Option<Value>,
    #[serde(deserialize_with = "object")]
    pub(crate) query: Option<AskedQuery>,
    #[serde(deserialize_with = "object")]
    pub(crate) copy: Option<AskedSources>,
    #[serde(deserialize_with = "object")]
    pub(crate) extract: Option<AskedSources>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AskedQuery {
    pub(crate) query: Option<String>,
    pub(crate) query_parameters: Option<Value>,
    pub(crate) maximum_bytes_billed: Option<Value>,
    pub(crate) connection_properties: Option<Vec<Property>>,
    pub(crate) use_legacy_sql: Option<Value>,
    pub(crate) default_dataset: Option<Value>,
    pub(crate) destination_table: Option<Value>,
    pub(crate) table_definitions: Option<Value>,
    pub(crate) write_disposition: Value,
    pub(crate) user_defined_function_resources: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AskedSources {
    pub(crate) source_table: Option<TableName>,
    pub(crate) source_tables: Option<Vec<TableName>>,
}

/// An object, or nothing. Left alone, serde would read an array as an object whose names were left out.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

impl Asked {
    /// What `jobs.query` reads of it. Members of the other door mean nothing there, and must mean nothing here.
    pub(crate) fn into_query(self) -> Self {
        Self { configuration: None, job_reference: None, ..self }
    }

    /// What `jobs.insert` reads of it.
    pub(crate) fn into_job(self) -> Self {
        Self { job_reference: self.job_reference, configuration: self.configuration, ..Self::default() }
    }

    pub(crate) fn reached(&self) -> Reached<'_> {
        let configuration = self.configuration.as_ref();
        let query = configuration.and_then(|configuration| configuration.query.as_ref());
        let inner = query.and_then(|query| query.connection_properties.as_ref());
        let jobs = configuration.into_iter().flat_map(|asked| asked.copy.iter().chain(&asked.extract));
        Reached {
            properties: self.connection_properties.iter().chain(inner).flatten().collect(),
            sources: jobs
                .flat_map(|job| job.source_table.iter().chain(job.source_tables.iter().flatten()))
                .collect(),
            sql: self.query.as_deref().or(query.and_then(|query| query.query.as_deref())),
        }
    }
}
