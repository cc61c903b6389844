// ioredis, both generations: the newer speaks RESP3. tests/clients/python says what of.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { ca, done, host, lost, node20, password, port, restart, test, tlsPort, until, username } from './tap.mjs'

async function all(name) {
    const { Redis } = await import(name)
    const title = (what) => `${name} ${what}`
    const connect = (options = {}) => {
        const client = new Redis({ host, port, username, password, ...options })
        client.on('error', (e) => said.push(e.message))
        return client
    }
    const said = []
    const once = { retryStrategy: null, maxRetriesPerRequest: 0, lazyConnect: true }
    const r = connect()
    await r.flushall()

    await test(title('login'), async () => {
        assert.equal(await r.ping(), 'PONG')
        const wrong = connect({ ...once, password: 'wrong' })
        await assert.rejects(wrong.connect().then(() => wrong.get('k')))
        assert.match(said.join(), /WRONGPASS/)
        wrong.disconnect()
        const other = connect({ db: 3, connectionName: 'node' })
        await other.set('where', 'three')
        assert.equal(await other.client('GETNAME'), 'node')
        assert.equal(await r.get('where'), null)
        await other.quit()
    })

    await test(title('tls'), async () => {
        const value = randomBytes(300000)
        const safe = connect({ port: tlsPort, tls: { ca: ca() } })
        await safe.set('tls', value)
        assert.ok((await safe.getBuffer('tls')).equals(value))
        await safe.quit()
        const untrusting = connect({ ...once, port: tlsPort, tls: {} })
        await assert.rejects(untrusting.connect())
        untrusting.disconnect()
    })

    await test(title('values'), async () => {
        assert.equal(await r.set('a', '1', 'EX', 100), 'OK')
        assert.ok((await r.ttl('a')) > 90)
        assert.equal(await r.set('a', '2', 'NX'), null)
        assert.equal(await r.incrby('n', 5), 5)
        assert.equal(Number(await r.incrbyfloat('n', 0.5)), 5.5)
        assert.equal(await r.mset({ m1: 'x', m2: 'y' }), 'OK')
        assert.deepEqual(await r.mget('m1', 'none', 'm2'), ['x', null, 'y'])
        assert.equal(await r.getdel('m2'), 'y')
        assert.equal(await r.del('m1', 'm2'), 1)
        assert.match(await r.info(), /redis_version:7/)
    })

    await test(title('binary and big values'), async () => {
        const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
        await r.set(every, every)
        assert.ok((await r.getBuffer(every)).equals(every))
        const big = randomBytes(1000000)
        await r.set('big', big)
        assert.ok((await r.getBuffer('big')).equals(big))
        await assert.rejects(r.set('bigger', Buffer.concat([big, big])), /TOOBIG/)
    })

    await test(title('pipelines'), async () => {
        const p = r.pipeline()
        for (let i = 0; i < 1000; i++) p.set(`p:${i}`, i).incr('count').get(`p:${i}`)
        const wanted = Array.from({ length: 1000 }, (_, i) => ['OK', i + 1, String(i)]).flat()
        assert.deepEqual(await p.exec(), wanted.map((answer) => [null, answer]))
    })

    await test(title('transactions'), async () => {
        assert.deepEqual(await r.multi().set('t', 1).incr('t').get('t').exec(), [[null, 'OK'], [null, 2], [null, '2']])
        const watcher = connect()
        await watcher.watch('t')
        await r.set('t', 10)
        assert.equal(await watcher.multi().set('t', 3).exec(), null)
        assert.equal(await r.get('t'), '10')
        await watcher.quit()
    })

    await test(title('channels'), async () => {
        const listener = connect()
        const heard = []
        listener.on('message', (channel, message) => heard.push([channel, message]))
        listener.on('pmessage', (pattern, channel, message) => heard.push([channel, message]))
        await listener.subscribe('news')
        await listener.psubscribe('n?ws')
        assert.equal(await r.publish('news', 'hello'), 2)
        await until(() => heard.length === 2)
        await listener.quit()
    })

    await test(title('listing'), async () => {
        const other = connect({ db: 5 })
        const p = other.pipeline()
        for (let i = 0; i < 1000; i++) p.set(`list:${i}`, 1).set(`other:${i}`, 1)
        await p.exec()
        const seen = new Set()
        for await (const keys of other.scanStream({ match: 'list:*', count: 100 })) for (const k of keys) seen.add(k)
        assert.equal(seen.size, 1000)
        assert.equal(await other.dbsize(), 2000)
        await other.flushdb()
        await other.quit()
    })

    await test(title('secrets'), async () => {
        const vault = `team-${name}`
        assert.equal(await r.call('VAULT.CREATE', vault), 'OK')
        assert.equal(await r.call('SECRET.SET', vault, 'db/password', 'one'), 1)
        assert.equal(await r.call('SECRET.SET', vault, 'db/password', 'two'), 2)
        assert.equal(await r.call('SECRET.GET', vault, 'db/password', 'VERSION', '1'), 'one')
        assert.equal(await r.get(`{${vault}}/db/password`), 'two')
        assert.equal(await r.call('KEY.CREATE', vault, 'k'), 1)
        const sealed = await r.callBuffer('KEY.ENCRYPT', vault, 'k', 'text')
        assert.equal(await r.call('KEY.DECRYPT', vault, 'k', sealed), 'text')
    })

    await test(title('reconnects'), async () => {
        const listener = connect()
        const heard = []
        listener.on('message', (channel, message) => heard.push(message))
        await listener.subscribe('back')
        await r.set('before', 'kept')
        restart()
        await until(async () => (await r.get('before').catch(lost)) === 'kept')
        assert.equal(await r.set('after', 1), 'OK')
        await until(async () => (await r.publish('back', 'again').catch(lost)) === 1)
        await until(() => heard.length > 0)
        listener.disconnect()
    })
    r.disconnect()
}

await all('ioredis-5')
if (node20) await all('ioredis')
done()
