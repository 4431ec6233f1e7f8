//! One instance of the module, and how it is called.

use googlesql::{Catalog, ParseFailure, Parser};
use prost::Message;
use std::time::{Duration, Instant};
use wasmtime::{InstancePre, Memory, Result, Store, TypedFunc};

use crate::catalog::AnalyzeRequest;
use crate::wasi::Host;

/// Ticks of the pool's clock, a tenth of a second each, that a call may last.
const TICKS_MAX: u64 = 10;
/// All calls for one text last at most so long: a script has many statements.
const TEXT_MAX: Duration = Duration::from_secs(3);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// `LanguageOptionsProto` of ZetaSQL's options.proto. What is left out stays as the module has it, but for the
/// statement kinds: none means all.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LanguageOptions {
    #[prost(int32, optional, tag = "2")]
    name_resolution_mode: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    product_mode: Option<i32>,
    #[prost(int32, repeated, packed = "false", tag = "5")]
    features: Vec<i32>,
    #[prost(string, repeated, tag = "8")]
    reserved_keywords: Vec<String>,
}

/// `LanguageOptionsRequest` of local_service.proto.
#[derive(Clone, PartialEq, Message)]
struct LanguageOptionsRequest {
    #[prost(bool, optional, tag = "1")]
    maximum_features: Option<bool>,
}

/// `ParseRequest`
#[derive(Clone, PartialEq, Message)]
struct ParseRequest {
    #[prost(string, optional, tag = "1")]
    sql: Option<String>,
    #[prost(message, optional, tag = "2")]
    options: Option<LanguageOptions>,
    #[prost(bool, optional, tag = "4")]
    allow_script: Option<bool>,
}

/// `ExtractTableNamesFromStatementRequest`
#[derive(Clone, PartialEq, Message)]
struct TableNamesRequest {
    #[prost(string, optional, tag = "1")]
    sql: Option<String>,
    #[prost(message, optional, tag = "2")]
    options: Option<LanguageOptions>,
    #[prost(bool, optional, tag = "3")]
    allow_script: Option<bool>,
}

/// `ExtractTableNamesFromStatementResponse`
#[derive(Clone, PartialEq, Message)]
struct TableNames {
    #[prost(message, repeated, tag = "1")]
    names: Vec<TableName>,
}

#[derive(Clone, PartialEq, Message)]
struct TableName {
    #[prost(string, repeated, tag = "1")]
    segments: Vec<String>,
}

/// `PRODUCT_EXTERNAL`: the types that BigQuery has.
const PRODUCT_EXTERNAL: i32 = 1;
/// Features that the maximum leaves out: ANONYMIZATION, CREATE TABLE LIKE, CLONE, SNAPSHOT TABLE, COPY,
/// DIFFERENTIAL_PRIVACY, VECTOR_SEARCH, TUMBLE and HOP (ZetaSQL's options.proto).
const FEATURES_MORE: &[i32] = &[24, 57, 60, 63, 66, 88, 146, 147];
/// Words that BigQuery reserves beyond the module's default.
const RESERVED: &[&str] = &["GRAPH_TABLE", "MATCH_RECOGNIZE"];

/// An instance. After a trap it is thrown away.
pub(crate) struct Guest {
    store: Store<Host>,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: TypedFunc<u32, ()>,
    parse: Method,
    table_names: Method,
    analyze: Method,
    error_size: TypedFunc<(), u32>,
    error: TypedFunc<(), u32>,
    options: LanguageOptions,
    is_broken: bool,
    /// When the text that is worked on must be done with.
    until: Instant,
}

type Method = TypedFunc<(u32, u32, u32), u32>;

impl Guest {
    /// A fresh instance, ready to be asked.
    pub(crate) fn new(module: &InstancePre<Host>) -> Result<Self> {
        let mut store = Store::new(module.module().engine(), Host::default());
        store.set_epoch_deadline(10 * TICKS_MAX);
        let instance = module.instantiate(&mut store)?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
        instance.get_typed_func::<(), ()>(&mut store, "_initialize")?.call(&mut store, ())?;
        let mut method = |name: &str| -> Result<Method> {
            instance.get_typed_func(&mut store, &format!("ZetaSqlLocalService_{name}"))
        };
        let parse = method("Parse")?;
        let table_names = method("ExtractTableNamesFromStatement")?;
        let analyze = method("Analyze")?;
        let language = method("GetLanguageOptions")?;
        let mut guest = Self {
            malloc: instance.get_typed_func(&mut store, "wasm_malloc")?,
            free: instance.get_typed_func(&mut store, "wasm_free")?,
            error_size: instance.get_typed_func(&mut store, "wasm_get_last_error_size")?,
            error: instance.get_typed_func(&mut store, "wasm_get_last_error")?,
            store,
            memory,
            parse,
            table_names,
            analyze,
            options: LanguageOptions::default(),
            is_broken: false,
            until: Instant::now() + TEXT_MAX,
        };
        let asked = LanguageOptionsRequest { maximum_features: Some(true) }.encode_to_vec();
        let answer = guest.call(&language, &asked)?.map_err(wasmtime::Error::msg)?;
        let mut options = LanguageOptions::decode(&answer[..])?;
        options.product_mode = Some(PRODUCT_EXTERNAL);
        options.features.extend(FEATURES_MORE);
        options.reserved_keywords.extend(RESERVED.iter().map(|word| (*word).to_owned()));
        guest.options = options;
        Ok(guest)
    }

    /// Another text begins.
    pub(crate) fn begin(&mut self) {
        self.until = Instant::now() + TEXT_MAX;
    }

    /// Whether it must be thrown away.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Calls a method: its answer, or the module's own word for why there is none. An error is a trap.
    fn call(&mut self, method: &Method, asked: &[u8]) -> Result<std::result::Result<Vec<u8>, String>> {
        self.store.set_epoch_deadline(TICKS_MAX);
        self.is_broken = true;
        let at = self.malloc.call(&mut self.store, asked.len().max(4) as u32)?;
        let len_at = self.malloc.call(&mut self.store, 4)?;
        self.memory.write(&mut self.store, at as usize, asked)?;
        let found = method.call(&mut self.store, (at, asked.len() as u32, len_at))?;
        let answer = if found == 0 {
            let len = self.error_size.call(&mut self.store, ())?;
            let text_at = self.error.call(&mut self.store, ())?;
            Err(String::from_utf8_lossy(&self.read(text_at, len as usize)?).into_owned())
        } else {
            let len = self.read(len_at, 4)?;
            let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
            let answer = self.read(found, len)?;
            self.free.call(&mut self.store, found)?;
            Ok(answer)
        };
        self.free.call(&mut self.store, at)?;
        self.free.call(&mut self.store, len_at)?;
        self.is_broken = false;
        Ok(answer)
    }

    fn read(&self, at: u32, len: usize) -> Result<Vec<u8>> {
        if len > ANSWER_BYTES_MAX {
            return Err(wasmtime::Error::msg("the answer is too long"));
        }
        let data = self.memory.data(&self.store);
        let found = data.get(at as usize..).and_then(|rest| rest.get(..len));
        found.map(<[u8]>::to_vec).ok_or_else(|| wasmtime::Error::msg("an answer outside the memory"))
    }

    fn ask(&mut self, method: Method, asked: &[u8]) -> std::result::Result<Vec<u8>, ParseFailure> {
        if Instant::now() > self.until {
            return Err(ParseFailure::Stopped(format!("it took more than {} s", TEXT_MAX.as_secs())));
        }
        match self.call(&method, asked) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(said)) => {
                // `Code: 3, Message: Syntax error: ...`
                let plain = said.split_once("Message: ").map_or(said.as_str(), |(_, plain)| plain);
                Err(ParseFailure::Refused(plain.to_owned()))
            }
            Err(trap) => {
                let text = trap.root_cause().to_string();
                Err(ParseFailure::Stopped(text.lines().next().unwrap_or_default().to_owned()))
            }
        }
    }
}

impl Parser for Guest {
    fn parse(&mut self, sql: &str) -> std::result::Result<Vec<u8>, ParseFailure> {
        let asked = ParseRequest {
            sql: Some(sql.to_owned()),
            options: Some(self.options.clone()),
            allow_script: Some(true),
        };
        self.ask(self.parse.clone(), &asked.encode_to_vec())
    }

    fn table_names(&mut self, sql: &str) -> std::result::Result<Vec<Vec<String>>, ParseFailure> {
        let asked = TableNamesRequest {
            sql: Some(sql.to_owned()),
            options: Some(self.options.clone()),
            allow_script: Some(true),
        };
        let answer = self.ask(self.table_names.clone(), &asked.encode_to_vec())?;
        let names = TableNames::decode(&answer[..])
            .map_err(|_| ParseFailure::Stopped("the list of tables can't be read".to_owned()))?;
        Ok(names.names.into_iter().map(|name| name.segments).collect())
    }

    fn analyze(&mut self, sql: &str, catalog: &Catalog) -> std::result::Result<Vec<u8>, ParseFailure> {
        let asked = AnalyzeRequest::new(sql, catalog, &self.options);
        self.ask(self.analyze.clone(), &asked.encode_to_vec())
    }
}
