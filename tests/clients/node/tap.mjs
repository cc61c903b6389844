// What the clients for Node share: cases, the server's address, and its death.
import { execSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export const { HOST: host, USERNAME: username, PASSWORD: password } = process.env
export const port = Number(process.env.PORT)
export const tlsPort = Number(process.env.TLS_PORT)
export const ca = () => readFileSync(process.env.CA)
export const node20 = Number(process.versions.node.split('.')[0]) >= 20

export async function test(name, body) {
    try {
        await body()
        console.log('ok', name)
    } catch (e) {
        console.log('not ok', name)
        console.log(e)
    }
}

// A command that was under way when the server died: the client cannot know what became of it, and says so.
export const lost = () => undefined

export const restart = () => execSync(process.env.RESTART, { stdio: 'inherit' })

// Waits for what happens soon.
export async function until(holds) {
    while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20))
}

// A connection that hangs must not keep the process.
export function done() {
    console.log('done')
    process.exit(0)
}
