//! Sign-ins under way: the authorization code flow with PKCE at a provider (OpenID Connect Core 1.0 section 3.1,
//! RFC 7636, RFC 9700), for a command on the same machine (RFC 8252) or for a device (RFC 8628).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use record::Timestamp;
use registry::{fingerprint, random_bytes};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::oidc::{Answered, Asking, OidcProvider};
use crate::{GrantError, Identified};

/// A sign-in takes at most so long, in seconds.
const FLOW_SECS: i64 = 600;
/// A code for a command is good for so long, in seconds.
const CODE_SECS: i64 = 60;
/// A device asks at most so often, in seconds.
const DEVICE_INTERVAL_SECS: i64 = 5;
/// Sign-ins under way at a time; the oldest make way.
const FLOWS_MAX: usize = 10_000;

/// What is to be done when somebody has signed in.
#[derive(Clone, Debug)]
pub enum Then {
    /// Send the browser back to a command on its machine, with a code that only the command can use.
    Command { redirect_uri: String, state: String, challenge: String },
    /// Ask whether a device may be signed in.
    Device { user_code: String },
}

/// A flow that a browser was sent into.
pub struct Asked {
    /// Where the browser goes.
    pub location: String,
    /// What the browser keeps, so that nobody else can end its flow.
    pub cookie: String,
}

/// Somebody who signed in.
pub struct SignedIn {
    pub who: Identified,
    pub then: Then,
}

/// A device that asks to be signed in.
pub struct Device {
    pub device_code: String,
    pub user_code: String,
    pub expires_in: i64,
    pub interval: i64,
}

#[derive(Default)]
struct Flow {
    provider: String,
    cookie: [u8; 32],
    verifier: String,
    nonce: String,
    then: Option<Then>,
    began: i64,
}

struct Code {
    who: Identified,
    redirect_uri: String,
    challenge: String,
    made: i64,
}

struct Waiting {
    user_code: String,
    state: DeviceState,
    began: i64,
    asked: i64,
}

enum DeviceState {
    Pending,
    /// Somebody signed in and is asked; by the fingerprint of what its page holds.
    Asking {
        confirm: [u8; 32],
        who: Box<Identified>,
    },
    Approved(Box<Identified>),
    Denied,
}

/// All of them.
#[derive(Default)]
pub struct SignIns {
    flows: Mutex<HashMap<String, Flow>>,
    codes: Mutex<HashMap<[u8; 32], Code>>,
    devices: Mutex<HashMap<[u8; 32], Waiting>>,
}

impl SignIns {
    /// Sends a browser to a provider.
    pub async fn begin(
        &self,
        provider: &OidcProvider,
        redirect_uri: &str,
        then: Then,
        now: Timestamp,
    ) -> Result<Asked, String> {
        let (state, cookie) = (secret(), secret());
        let flow = Flow {
            provider: provider.name().to_owned(),
            cookie: fingerprint(&cookie),
            verifier: secret(),
            nonce: secret(),
            then: Some(then),
            began: now.secs(),
        };
        let challenge = encoded(&fingerprint(&flow.verifier));
        let asking = Asking { redirect_uri, state: &state, nonce: &flow.nonce, challenge: &challenge };
        let location = provider.sign_in_address(&asking).await?;
        let mut flows = lock(&self.flows);
        make_room(&mut flows, |flow| flow.began, now);
        flows.insert(state, flow);
        Ok(Asked { location, cookie })
    }

    /// A browser came back. The flow is over, whatever comes of it.
    pub async fn finish(
        &self,
        providers: &[OidcProvider],
        redirect_uri: &str,
        answer: &HashMap<String, String>,
        cookie: &str,
        now: Timestamp,
    ) -> Result<SignedIn, String> {
        let value = |name: &str| answer.get(name).map(String::as_str);
        let flow = lock(&self.flows).remove(value("state").unwrap_or_default());
        let flow = flow.filter(|flow| flow.began + FLOW_SECS > now.secs());
        let flow = flow.ok_or("this sign-in is not known, or took too long; start again")?;
        if fingerprint(cookie) != flow.cookie {
            return Err("another browser began this sign-in".to_owned());
        }
        let Some(code) = value("code") else {
            let why: String =
                value("error").unwrap_or("no code").chars().filter(char::is_ascii_graphic).take(60).collect();
            return Err(format!("the provider refused: {why}"));
        };
        let provider = providers.iter().find(|provider| provider.name() == flow.provider);
        let provider = provider.ok_or("this provider is not configured any more")?;
        let (verifier, nonce, iss) = (&flow.verifier, &flow.nonce, value("iss"));
        let who = provider.signed_in(&Answered { code, verifier, redirect_uri, nonce, iss }, now).await?;
        let then = flow.then.ok_or("this sign-in leads nowhere")?;
        Ok(SignedIn { who, then })
    }

    /// A code for the command that began the sign-in.
    pub fn code(&self, who: Identified, redirect_uri: String, challenge: String, now: Timestamp) -> String {
        let code = secret();
        let mut codes = lock(&self.codes);
        make_room(&mut codes, |code| code.made, now);
        codes.insert(fingerprint(&code), Code { who, redirect_uri, challenge, made: now.secs() });
        code
    }

    /// What a code stands for; it is good once, for whoever has its verifier.
    pub fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Identified, GrantError> {
        let found = lock(&self.codes).remove(&fingerprint(code)).ok_or(GrantError::NotGood)?;
        let is_good = found.made + CODE_SECS > now.secs()
            && found.redirect_uri == redirect_uri
            && found.challenge == encoded(&fingerprint(verifier));
        is_good.then_some(found.who).ok_or(GrantError::NotGood)
    }

    /// A device asks.
    pub fn device(&self, now: Timestamp) -> Device {
        let (device_code, user_code) = (secret(), user_code());
        let waiting = Waiting {
            user_code: user_code.clone(),
            state: DeviceState::Pending,
            began: now.secs(),
            asked: 0,
        };
        let mut devices = lock(&self.devices);
        make_room(&mut devices, |device| device.began, now);
        devices.insert(fingerprint(&device_code), waiting);
        Device { device_code, user_code, expires_in: FLOW_SECS, interval: DEVICE_INTERVAL_SECS }
    }

    /// Whether a device waits with that code.
    pub fn device_waits(&self, user_code: &str, now: Timestamp) -> bool {
        lock(&self.devices).values().any(|device| device.is(user_code, now))
    }

    /// Somebody signed in for a device. Returns what its page must send back to approve it.
    pub fn ask_for_device(&self, user_code: &str, who: Identified, now: Timestamp) -> Option<String> {
        let mut devices = lock(&self.devices);
        let device = devices.values_mut().find(|device| device.is(user_code, now))?;
        let confirm = secret();
        device.state = DeviceState::Asking { confirm: fingerprint(&confirm), who: Box::new(who) };
        Some(confirm)
    }

    /// The answer of that page; who approved or refused, if there was such a page.
    pub fn answer_device(&self, confirm: &str, approved: bool, now: Timestamp) -> Option<Identified> {
        let mut devices = lock(&self.devices);
        let wanted = fingerprint(confirm);
        let device = devices.values_mut().find(|device| {
            device.began + FLOW_SECS > now.secs()
                && matches!(&device.state, DeviceState::Asking { confirm, .. } if *confirm == wanted)
        })?;
        match std::mem::replace(&mut device.state, DeviceState::Denied) {
            DeviceState::Asking { who, .. } => {
                if approved {
                    device.state = DeviceState::Approved(who.clone());
                }
                Some(*who)
            }
            _ => None,
        }
    }

    /// What a device gets for its code (RFC 8628 section 3.5).
    pub fn poll_device(&self, device_code: &str, now: Timestamp) -> Result<Identified, GrantError> {
        let mut devices = lock(&self.devices);
        let id = fingerprint(device_code);
        let device = devices.get_mut(&id).ok_or(GrantError::NotGood)?;
        if device.began + FLOW_SECS <= now.secs() {
            devices.remove(&id);
            return Err(GrantError::ExpiredToken);
        }
        if now.secs() - device.asked < DEVICE_INTERVAL_SECS - 1 {
            return Err(GrantError::SlowDown);
        }
        device.asked = now.secs();
        match device.state {
            DeviceState::Pending | DeviceState::Asking { .. } => {
                return Err(GrantError::AuthorizationPending);
            }
            DeviceState::Approved(_) | DeviceState::Denied => {}
        }
        match devices.remove(&id).map(|device| device.state) {
            Some(DeviceState::Approved(who)) => Ok(*who),
            _ => Err(GrantError::AccessDenied),
        }
    }
}

impl Waiting {
    fn is(&self, user_code: &str, now: Timestamp) -> bool {
        let plain =
            |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
        self.began + FLOW_SECS > now.secs()
            && !matches!(self.state, DeviceState::Approved(_) | DeviceState::Denied)
            && plain(&self.user_code) == plain(user_code)
    }
}

/// 256 bits that nobody guesses.
fn secret() -> String {
    encoded(&random_bytes::<32>())
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Eight letters that no one takes for others and that make no words (RFC 8628 section 6.1).
fn user_code() -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let code: String =
        random_bytes::<8>().iter().map(|byte| LETTERS[usize::from(*byte) % 20] as char).collect();
    format!("{}-{}", &code[..4], &code[4..])
}

/// Drops what is over, and the oldest where there are too many.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    all: &mut HashMap<K, V>,
    began: impl Fn(&V) -> i64,
    now: Timestamp,
) {
    if all.len() < FLOWS_MAX {
        return;
    }
    all.retain(|_, value| began(value) + FLOW_SECS > now.secs());
    if all.len() >= FLOWS_MAX
        && let Some(oldest) = all.iter().min_by_key(|(_, value)| began(value)).map(|(key, _)| key.clone())
    {
        all.remove(&oldest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
