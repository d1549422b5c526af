// Google's client for Node, built from the discovery document at the URL that is given; it says
// "ready" when it is. Then, for each line {"path": ["projects", …, "get"], "given": {…}}, it writes
// the reply, or the error, as a line.
'use strict';

const readline = require('node:readline');
const {Discovery} = require('googleapis-common');

async function answer(api, {path, given}) {
  const collection = path.slice(0, -1).reduce((found, name) => found[name], api);
  try {
    const {status, data} = await collection[path.at(-1)](given);
    return {status, data};
  } catch (error) {
    if (!error.response) {
      throw error;
    }
    const {code, message, response} = error;
    return {error: {code, message, status: response.status, data: response.data}};
  }
}

async function main() {
  const create = await new Discovery({}).discoverAPI(process.argv[2]);
  const api = create({});
  console.log('ready');
  for await (const line of readline.createInterface({input: process.stdin})) {
    console.log(JSON.stringify(await answer(api, JSON.parse(line))));
  }
}

main();
