// The token endpoint of the sandbox's service account: the emulator asks for no token, the gateway needs one.
import { createServer } from 'node:http';

createServer((request, response) => {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ access_token: 'the-sandbox-needs-none', token_type: 'Bearer', expires_in: 3600 }));
}).listen(9402, '127.0.0.1');
