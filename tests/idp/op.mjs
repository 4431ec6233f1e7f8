// A certified OpenID Connect provider on loopback: access tokens for services, as JWTs, by client credentials.
// usage: node op.mjs PORT
import Provider from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const audience = 'hansard';

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'nightly-report', client_secret: 'test-secret', grant_types: ['client_credentials'],
    redirect_uris: [], response_types: [],
  }],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:hansard',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'bigquery', audience, accessTokenFormat: 'jwt', accessTokenTTL: 600 }),
    },
  },
  extraTokenClaims: () => ({ groups: ['data'] }),
});
provider.listen(port, '127.0.0.1', () => console.log('listening'));
