//! Which host is what.

use registry::SISTERS;

/// What to do with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// BigQuery's REST or Storage API: by way of the gateway.
    BigQuery,
    /// `www.googleapis.com`, where BigQuery is one path among other services'.
    Shared,
    /// The IAM credentials service, which Google's libraries ask about the account that they run as.
    Credentials,
    /// An API beside BigQuery that moves or shares its data.
    Sister,
    /// Looks like one of BigQuery's names and is not served: refused, never tunnelled.
    Unknown,
    /// Somebody else's.
    Other,
}

const SERVICES: &[&str] = &["bigquery", "bigquerystorage"];
const SHARED: &str = "www.googleapis.com";
const CREDENTIALS: &str = "iamcredentials.googleapis.com";

/// BigQuery's regions and multi-regions; each has names of its own
/// (<https://cloud.google.com/bigquery/docs/locations>, and "regional endpoints" there).
const REGIONS: &[&str] = &[
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "eu",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "northamerica-south1",
    "southamerica-east1",
    "southamerica-west1",
    "us",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
    "us-west8",
];

/// Every name that a certificate may be made for.
pub(crate) fn served() -> Vec<String> {
    let mut names = vec![
        SHARED.to_owned(),
        "www.mtls.googleapis.com".to_owned(),
        CREDENTIALS.to_owned(),
        "iamcredentials.mtls.googleapis.com".to_owned(),
    ];
    for service in SERVICES {
        names.push(format!("{service}.googleapis.com"));
        names.push(format!("{service}.mtls.googleapis.com"));
        for region in REGIONS {
            names.push(format!("{region}-{service}.googleapis.com"));
            names.push(format!("{region}-{service}.mtls.googleapis.com"));
            names.push(format!("{service}.{region}.rep.googleapis.com"));
            names.push(format!("{service}.{region}.rep.mtls.googleapis.com"));
        }
    }
    for sister in SISTERS {
        names.push(format!("{sister}.googleapis.com"));
        names.push(format!("{sister}.mtls.googleapis.com"));
    }
    names
}

/// What a host is, whatever its case and with or without the root's dot.
pub fn host(name: &str) -> Host {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let Some(labels) = name.strip_suffix(".googleapis.com") else { return Host::Other };
    let is_served = served().contains(&name);
    let of = |word: &str| {
        labels.split('.').any(|label| label == word || label.strip_suffix(word).is_some_and(is_region_dash))
    };
    if SERVICES.iter().any(|service| of(service)) {
        return if is_served { Host::BigQuery } else { Host::Unknown };
    }
    if SISTERS.iter().any(|sister| of(sister)) {
        return if is_served { Host::Sister } else { Host::Unknown };
    }
    match labels {
        "www" | "www.mtls" => Host::Shared,
        "iamcredentials" | "iamcredentials.mtls" => Host::Credentials,
        _ => Host::Other,
    }
}

/// `us-east4-` before a service's name.
fn is_region_dash(text: &str) -> bool {
    text.strip_suffix('-').is_some_and(|region| !region.is_empty())
}

/// Paths that are BigQuery's on the shared host.
pub(crate) fn is_bigquery_path(path: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "/bigquery/",
        "/upload/bigquery/",
        "/resumable/upload/bigquery/",
        "/batch/bigquery/",
        "/discovery/v1/apis/bigquery/",
    ];
    // A path that hides its words behind escapes or dots is not told apart here: the gateway reads it.
    let is_odd = path.contains('%') || path.contains("//") || path.contains("/.") || path.contains('\\');
    is_odd || path == "/batch" || PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_is_known() {
        for name in [
            "bigquery.googleapis.com",
            "BigQuery.googleapis.com.",
            "us-east4-bigquery.googleapis.com",
            "bigquerystorage.googleapis.com",
            "bigquery.europe-west3.rep.googleapis.com",
            "bigquerystorage.us.rep.googleapis.com",
            "bigquery.mtls.googleapis.com",
        ] {
            assert_eq!(host(name), Host::BigQuery, "{name}");
        }
        assert_eq!(host("moon-north1-bigquery.googleapis.com"), Host::Unknown);
        assert_eq!(host("bigquery.p.googleapis.com"), Host::Unknown);
        assert_eq!(host("bigqueryreservation.googleapis.com"), Host::Sister);
        assert_eq!(host("us-bigquerydatatransfer.googleapis.com"), Host::Unknown);
        assert_eq!(host("www.googleapis.com"), Host::Shared);
        for name in ["storage.googleapis.com", "example.com", "bigquery.googleapis.com.example.com"] {
            assert_eq!(host(name), Host::Other, "{name}");
        }
    }

    #[test]
    fn served_names_are_what_they_are_served_as() {
        for name in served() {
            assert!(!matches!(host(&name), Host::Other | Host::Unknown), "{name}");
        }
    }
}
